"""`python -m tests.documents` writes what is generated in the documents; `make docs` runs it."""

from tests.documents.generated import differences
from tests.documents.pages import ROOT

for path, text in differences().items():
    path.write_text(text)
    print(f"written: {path.relative_to(ROOT)}")
