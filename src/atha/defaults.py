"""What is used when a user names nothing. Plain values: the command line shows them without loading anything."""

#: Of the presets compared on real images (docs/results.md), none did better.
RECIPE = "auto"
#: The embedded model.
NANO = "nano"
MODEL = "openai/clip-vit-base-patch16"
#: Larger images are refused unless more is asked for; Pillow's own limit.
MAX_PIXELS = 178_956_970
#: Share of images of the classes that may be called unknown, where nobody says another.
UNKNOWN_RATE = 0.05
#: Images that go through the model at once in prediction, where memory is no limit.
BATCH_SIZE = 32
