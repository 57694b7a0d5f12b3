import re


def filled(page: str, block: str, content: str) -> str:
    """The page with `content` between `<!-- block -->` and `<!-- /block -->`.

    Raises:
        ValueError: the page does not have exactly one such block.
    """
    between = re.compile(rf"(?<=<!-- {block} -->\n).*?(?=<!-- /{block} -->)", re.DOTALL)
    text, count = between.subn(lambda _: content, page)
    if count != 1:
        raise ValueError(f"{count} blocks <!-- {block} --> … <!-- /{block} -->, expected 1")
    return text
