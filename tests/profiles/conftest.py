import pytest


@pytest.fixture
def latencies(shared_data):
    return shared_data / "latency_profiles.csv"
