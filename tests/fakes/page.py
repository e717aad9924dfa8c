"""A page as a browser without scripts reads it: what it says, where it leads, and its forms filled in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

__all__ = ["Element", "Form", "Page"]

_VOID = {"meta", "link", "input", "br", "img", "path", "circle", "rect"}


@dataclass
class Element:
    """One element; `text` is all the text in it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""

    def __getitem__(self, name: str) -> str:
        return self.attributes[name]

    def get(self, name: str) -> str | None:
        return self.attributes.get(name)


@dataclass
class Form:
    """A form with what it would send; `buttons` are those that name something."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class Page(HTMLParser):
    """Reads one document."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = text
        self.elements: list[Element] = []
        self.forms: list[Form] = []
        self._open: list[Element] = []
        self._in_form: Form | None = None
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {[element.tag for element in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in _VOID:
            self._open.append(element)
        if tag == "form":
            self._in_form = Form(element["action"], element.get("method") or "get")
            self.forms.append(self._in_form)
        elif self._in_form is not None:
            self._field(self._in_form, element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID:
            return
        element = self._open.pop()
        assert element.tag == tag, f"</{tag}> closes <{element.tag} {element.attributes}>"
        if tag == "textarea" and self._in_form is not None:
            # A line end right behind the tag is left out.
            self._in_form.fields[element["name"]] = element.text.removeprefix("\n")
        if tag == "form":
            self._in_form = None

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    @property
    def text(self) -> str:
        """Return what the body says, white space made one."""
        return " ".join(next(self.all("body")).text.split())

    def all(self, tag: str, **attributes: str) -> Iterator[Element]:
        """Yield elements of a tag with these attributes."""
        for element in self.elements:
            if element.tag == tag and attributes.items() <= element.attributes.items():
                yield element

    def one(self, tag: str, **attributes: str) -> Element:
        """Return the only such element."""
        (found,) = self.all(tag, **attributes)
        return found

    def form(self, action: str) -> Form:
        """Return the form that goes to `action`."""
        (found,) = [form for form in self.forms if form.action == action]
        return found

    @staticmethod
    def _field(form: Form, element: Element) -> None:
        name = element.get("name")
        if element.tag == "input" and name:
            form.fields[name] = element.get("value") or ""
        elif element.tag == "button" and name:
            form.buttons.append((name, element["value"]))
        elif element.tag == "select" and name:
            form.fields[name] = "\0"
        elif element.tag == "option":
            select = next(reversed(form.fields))
            if form.fields[select] == "\0" or element.get("selected") is not None:
                form.fields[select] = element["value"]
