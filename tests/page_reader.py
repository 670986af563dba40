"""Read an HTML page, and a name that tries to break out of it."""

from html.parser import HTMLParser

VOID = {"meta", "img", "link", "br", "hr", "input", "base"}
HOSTILE = "</script><script>hacked = 1</script>\"'><img src=x onerror='hacked = 1'>&lt;\n"


class Reader(HTMLParser):
    """Elements of a page in order: (tag, attributes, all text within). Every tag that opens must close."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes)
        self.elements.append((tag, dict(attributes), []))
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, words in self.open:
            words.append(data)

    def all(self, *tags: str) -> list[tuple[str, dict, str]]:
        return [(tag, attributes, "".join(words)) for tag, attributes, words in self.elements if tag in tags]

    def attribute(self, tag: str, name: str) -> list:
        return [attributes.get(name) for _, attributes, _ in self.all(tag)]

    def texts(self, *tags: str) -> list[str]:
        return [" ".join(text.split()) for _, _, text in self.all(*tags)]
