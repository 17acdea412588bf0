"""Measure, in a browser, whether text can be read: its contrast by WCAG 2, and its size."""

from __future__ import annotations

from typing import Any

__all__ = ["low_contrast"]

LEAST, SMALLEST = 4.5, 12.0  # contrast, CSS pixels

_MEASURE = """([within, least, smallest]) => {
  // Colours come as rgb(), color(srgb ...) or oklab(): a canvas turns each into bytes.
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const known = new Map();
  const bytes = (colour) => {
    if (!known.has(colour)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      known.set(colour, [r, g, b, a / 255]);
    }
    return known.get(colour);
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  // What the page is made of where nothing has a ground: white, or what the scheme of the page says.
  const probe = document.body.appendChild(document.createElement("div"));
  probe.style.background = "Canvas";
  const paper = bytes(getComputedStyle(probe).backgroundColor);
  probe.remove();
  const parent = (node) => node.parentElement ?? (node.getRootNode().host ?? null);
  const found = new Map();
  const look = (root) => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (node.shadowRoot) look(node.shadowRoot);
      if (node.nodeType !== Node.TEXT_NODE || !node.textContent.trim()) continue;
      const element = node.parentElement;
      if (!element || element.closest("style, script, svg, [aria-hidden='true'], :disabled, .unseen")) continue;
      if (!element.checkVisibility({checkOpacity: true, checkVisibilityCSS: true})) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      const box = range.getBoundingClientRect();
      if (box.width < 1 || box.height < 1) continue;
      const chain = [];
      for (let at = element; at; at = parent(at)) chain.push(at);
      let ground = paper;
      // From the page inwards; an element's opacity fades its text, its ground lies under it.
      let fade = 1;
      for (const at of chain.reverse()) {
        const style = getComputedStyle(at);
        ground = over(bytes(style.backgroundColor), ground);
        fade *= Number(style.opacity);
      }
      const style = getComputedStyle(element);
      const ink = [...bytes(style.color)];
      ink[3] *= fade;
      const [one, other] = [light(over(ink, ground)), light(ground)];
      const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      const size = parseFloat(style.fontSize);
      if (ratio < least || size < smallest) {
        const words = node.textContent.trim().replace(/\\s+/g, " ").slice(0, 40);
        const name = element.className && typeof element.className === "string" ? "." + element.className : "";
        found.set(`${element.tagName.toLowerCase()}${name} ${ratio.toFixed(2)} ${size}px: ${words}`, true);
      }
    }
  };
  for (const root of document.querySelectorAll(within)) look(root);
  return [...found.keys()];
}"""


def low_contrast(
    page: Any, within: str = "body", *, least: float = LEAST, smallest: float = SMALLEST
) -> list[str]:
    """
    Return a line for each text that is too pale or too small: where, contrast, size, and its first words.

    Parameters
    ----------
    page : playwright's Page or Frame
    within : str
        A CSS selector; what is in none of its elements is not looked at.
    least : float
        Contrast of text to what lies under it.
    smallest : float
        CSS pixels.
    """
    return list(page.evaluate(_MEASURE, [within, least, smallest]))
