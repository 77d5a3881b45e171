"""Where labelled images come from: a module for each layout, and a line here, the first that fits being taken."""

from atha.data.sources import folder, hub, json_lines, metadata, parquet, table, text_list
from atha.data.sources.layout import Layout

LAYOUTS: tuple[Layout, ...] = (
    metadata.LAYOUT,
    parquet.LAYOUT,
    folder.LAYOUT,
    table.LAYOUT,
    json_lines.LAYOUT,
    text_list.LAYOUT,
    hub.LAYOUT,
)
"""What `atha.data.read_labelled` reads of paths and names."""
