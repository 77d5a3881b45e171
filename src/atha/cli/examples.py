"""Examples of each command, shown below its options and in the reference."""

import typer

EXAMPLES = {
    "demo": ("atha demo", "atha demo --images 20 --out there"),
    "fit": (
        "atha fit support/ --eval test/ --out adapter/",
        "atha fit photos/ --shot 5 --eval rest --model nano --recipe probes --out adapter/",
    ),
    "suggest": ("atha suggest photos/ --adapter adapter/ --csv queue.csv",),
    "add": ("atha add adapter/ more/ --out bigger/",),
    "predict": ("atha predict adapter/ photos/ --csv predictions.csv", "atha predict adapter/ a.jpg b.jpg --all"),
    "evaluate": ("atha evaluate adapter/ test/",),
    "explain": ("atha explain adapter/ photo.jpg --out photo.png",),
    "report": ("atha report adapter/ --test test/ --out report.html",),
    "info": ("atha info adapter/", "atha info paper", "atha info --schema > recipe.schema.json"),
    "env": ("atha env",),
    "label": ("atha label photos/ --model nano --classes cat,dog --out labels.csv",),
    "serve": ("atha serve adapter/", "atha serve adapter/ --host 0.0.0.0 --token-file token"),
    "push": ("atha push adapter/ ORG/NAME",),
    "export": ("atha export adapter/ --out shipped/", "atha export adapter/ --format transformers --out merged/"),
    "data list": ("atha data list",),
    "data check": ("atha data check isic2018 --root DIR", "atha data check photos/"),
    "data classes": ("atha data classes photos/ --out classes.json",),
    "data audit": ("atha data audit photos/ --model nano --html audit.html",),
    "bench run": (
        "atha bench run --dataset photos/ --model nano --method linear-probe,atha:probes --shot 1,5 --store results.db",
        "atha bench run --suite paper --root DIR --store paper.db",
    ),
    "bench compare": ("atha bench compare results.db --baseline linear-probe",),
    "bench report": ("atha bench report results.db --format html",),
    "bench episodes": ("atha bench episodes --dataset photos/ --shot 1 --out episodes.json",),
    "bench merge": ("atha bench merge a.db b.db --store all.db",),
    "bench copy": ("atha bench copy results.db --out copy.db",),
    "study tail": ("atha study tail --data photos/ --model nano --source everyday/ --out study/",),
}


def show(app: typer.Typer, before: str = "") -> None:
    """Put the examples below the help of a group's commands.

    Args:
        app: the group.
        before: its name and a space; empty for the program itself.
    """
    for command in app.registered_commands:
        name = command.name or str(getattr(command.callback, "__name__", "")).replace("_", "-")
        if lines := EXAMPLES.get(f"{before}{name}"):
            command.epilog = "\n\n".join(["Examples:", *(f"$ {line}" for line in lines)])
    for group in app.registered_groups:
        if group.typer_instance is not None:
            show(group.typer_instance, f"{group.name} ")
