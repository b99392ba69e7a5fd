"""What an import of this package changes in fairseq and torch; to be run in a process that has not imported it."""

import inspect
import json
import sys

OTHERS = ("fairseq", "fairseq_cli", "torch", "numpy", "omegaconf", "hydra", "argparse", "logging", "random")


def functions():
    """The functions and classes of all loaded modules and what the classes hold, as {name: (owner, name in it, it)}."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in OTHERS or not inspect.ismodule(module):
            continue
        for attribute, value in list(vars(module).items()):
            if inspect.isroutine(value) or inspect.isclass(value):
                found[f"{name}.{attribute}"] = module, attribute, value
            if inspect.isclass(value) and value.__module__ == name:
                for inner, held in list(vars(value).items()):
                    if inspect.isroutine(held):
                        found[f"{name}.{attribute}.{inner}"] = value, inner, held
    return found


def registered():
    """The contents of fairseq's registries."""
    from fairseq import criterions, models, registry, tasks

    registries = [models.MODEL_REGISTRY, models.ARCH_MODEL_REGISTRY, models.ARCH_CONFIG_REGISTRY]
    registries += [tasks.TASK_REGISTRY, criterions.CRITERION_REGISTRY]
    registries += [each["registry"] for each in registry.REGISTRIES.values()]
    return [dict(each) for each in registries]


def described(function):
    """As what kind of attribute it is called, with which arguments, and where TorchScript finds its names."""
    called = getattr(function, "__func__", function)
    names = id(called.__globals__)
    return type(function), inspect.signature(called), called.__module__, called.__qualname__, names


def takes_the_place(new, old):
    """Whether one is a subclass of the other, or a wrapper around it that is called as it was."""
    if inspect.isclass(old):
        return issubclass(new, old) and inspect.signature(new) == inspect.signature(old)
    inner, stock = (inspect.unwrap(getattr(each, "__func__", each)) for each in (new, old))
    return inner is stock and described(new) == described(old)


def main():
    """Print which names mean something else, which of these cannot take the old one's place, and what is lost."""
    before, registries = functions(), registered()
    import skipln_fairseq  # noqa: F401

    changed, other = [], []
    for name, (owner, attribute, old) in before.items():
        new = inspect.getattr_static(owner, attribute, None)
        if new is not old:
            changed.append(name)
            if not takes_the_place(new, old):
                other.append(name)
    lost = [
        key
        for old, new in zip(registries, registered(), strict=True)
        for key in old
        if new.get(key) is not old[key]
    ]
    print("CHANGES", json.dumps({"changed": changed, "other": other, "lost": lost}))


if __name__ == "__main__":
    main()
