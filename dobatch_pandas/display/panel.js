// A job's panel where only anywidgets are shown: Python draws, this puts it on the page and says what was pressed.
function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "dobatch-panel";
  const parts = {}, buttons = {};
  const part = (name, into) => {
    parts[name] = into.appendChild(document.createElement("div"));
    parts[name].className = `dobatch-${name}`;
  };
  const top = root.appendChild(document.createElement("div"));
  top.className = "dobatch-top";
  part("line", top);
  for (const name of ["head", "body", "message"]) part(name, root);
  const row = root.appendChild(document.createElement("div"));
  row.className = "dobatch-buttons";
  part("details", root);

  const button = (name) => {
    const made = document.createElement("button");
    made.type = "button";
    made.addEventListener("click", () => model.send({ kind: "press", button: name }));
    (name === "more" ? top : row).append(made);
    return made;
  };
  // What has not changed is left alone: an open fold stays open, a screen reader is not told twice.
  const put = (place, html) => {
    if (place.drawn === html) return;
    place.drawn = html;
    place.innerHTML = html;
    place.hidden = !html;
  };
  const draw = () => {
    const { pieces = {}, buttons: wanted = [], compact = false } = model.get("drawing");
    root.classList.toggle("dobatch-compact", compact);
    top.hidden = !compact;
    for (const name in parts) put(parts[name], pieces[name] ?? "");
    for (const { name, words, says, there } of wanted) {
      const shown = (buttons[name] ??= button(name));
      if (shown.textContent !== words) shown.textContent = words;
      shown.title = says;
      shown.hidden = !there;
      shown.classList.toggle("dobatch-danger", name === "sure");
    }
    row.hidden = !wanted.some(({ name, there }) => there && name !== "more");
  };
  const told = (message) => {
    if (message.kind === "focus") buttons[message.button]?.focus();
  };
  model.on("change:drawing", draw);
  model.on("msg:custom", told);
  draw();
  const forget = bell({ model, place: row });
  el.append(root);
  return () => {
    forget();
    model.off("change:drawing", draw);
    model.off("msg:custom", told);
  };
}

export default { initialize, render };
