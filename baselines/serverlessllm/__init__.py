"""ServerlessLLM and ServerlessLLM+: at their best (`ours`), as the authors ran them (`paper`)."""

from baselines.serverlessllm.ours import ServerlessLLM
from baselines.serverlessllm.paper import ServerlessLLMPaper

__all__ = ["ServerlessLLM", "ServerlessLLMPaper"]
