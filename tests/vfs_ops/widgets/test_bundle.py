import pytest

from vfs_ops.widgets.bundle import bundle, stylesheet


def write(folder, **modules):
    for name, text in modules.items():
        (folder / f"{name}.js").write_text(text)
    return folder


def test_modules_are_joined_once_each_and_in_order(tmp_path):
    folder = write(
        tmp_path,
        low="const secret = 1;\nexport const value = secret;\n",
        middle='import { value } from "./low.js";\n'
        "export function twice() {\n  return 2 * value;\n}\n",
        entry='import {\n  twice,\n} from "./middle.js";\nimport { value } from "./low.js";\n'
        "const secret = twice() + value;\nexport default { secret };\n",
    )
    joined = bundle("entry", folder)
    assert joined.count("const value = secret") == 1
    assert joined.index("const __low") < joined.index("const __middle") < joined.index("__entry")
    assert joined.endswith("export default __entry.default;\n")
    assert joined.count("export") == 1
    assert "import" not in joined


@pytest.mark.parametrize(
    "line",
    [
        'import value from "./low.js";',
        'import * as low from "./low.js";',
        'import { value as v } from "./low.js";',
        'import { value } from "https://cdn.example/low.js";',
        "export let value = 1;",
        'export { value } from "./low.js";',
    ],
)
def test_other_forms_are_refused(tmp_path, line):
    folder = write(tmp_path, low="export const value = 1;\n", entry=f"{line}\nexport default 1;\n")
    with pytest.raises(ValueError, match="see the forms"):
        bundle("entry", folder)


def test_cycles_are_refused(tmp_path):
    folder = write(
        tmp_path,
        a='import { b } from "./b.js";\nexport const a = 1;\n',
        b='import { a } from "./a.js";\nexport const b = 1;\n',
    )
    with pytest.raises(ValueError, match="a → b → a"):
        bundle("a", folder)


def test_style_sheets_begin_with_the_theme():
    assert stylesheet().startswith("/* Colours and controls of all widgets")
