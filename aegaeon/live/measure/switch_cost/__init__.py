"""Figure 7: the cost of a model switch on one device, for each way to do it."""
