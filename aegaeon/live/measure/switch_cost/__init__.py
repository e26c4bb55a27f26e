"""Figure 7: what a change of model costs on one device, way by way."""
