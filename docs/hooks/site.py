"""What the site has beside the pages in docs: the reference, made of the code, and pictures and tables, of runs."""

import json
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

sys.path.insert(0, str(Path(__file__).parent))
import reference
import runs

_ROOMS = {"How to": "how-to", "Concepts": "concepts"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put pages that the navigation does not name behind those that it does."""
    docs = Path(config.docs_dir)
    for section in config.nav or []:
        for title, pages in section.items():
            if title in _ROOMS:
                there = sorted(path.relative_to(docs).as_posix() for path in (docs / _ROOMS[title]).glob("*.md"))
                pages += [path for path in there if path not in pages]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made."""
    for path, content in {**reference.pages(), **runs.files(), **_own()}.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what runs gave, where a page has a comment that names it."""
    if page.is_homepage:
        page.meta["hide"] = ["toc"]
    made = runs.texts()
    return re.sub(r"<!-- run: (\w+) -->", lambda found: made[found[1]], markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Take from this site what the theme takes from elsewhere, so that pages need no network, and name its dialog."""
    own = get_relative_url("made/worker.js", page.url)
    named = output.replace(
        'data-md-component="search" role="dialog"', 'data-md-component="search" role="dialog" aria-label="Search"'
    )
    return named.replace("https://unpkg.com/iframe-worker/shim", own)


def _own() -> dict[str, str]:
    folder = Path(__file__).parent
    return {f"made/{name}": (folder / name).read_text("utf-8") for name in ("site.css", "tables.js", "worker.js")}


def on_post_build(config: MkDocsConfig) -> None:
    """The schema of recipes at a path that stays."""
    from atha.recipe import Recipe

    folder = Path(config.site_dir) / "schema"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps(Recipe.schema_of_files(), indent=2) + "\n", "utf-8")
