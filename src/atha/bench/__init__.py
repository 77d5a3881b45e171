"""A benchmark of few-shot methods: identical episodes, paired differences, a store that survives interruption."""
