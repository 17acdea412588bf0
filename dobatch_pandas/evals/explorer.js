// The explorer's front end: plain ESM, nothing loaded, no HTML from strings. Whatever comes from the data goes
// through textContent or an attribute, so that it stays text.

let views = 0;

/** Make an element: `on*` are listeners, `text` is text, everything else an attribute. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const number = (value) => value.toLocaleString("en-US");
const MARKS = { correct: "✓", wrong: "✗", failed: "!", unlabelled: "?" };
const short = (text) => text === null || (text.length <= 80 && !text.includes("\n"));
const CHANGES = { win: "now right", loss: "now wrong", "other answer": "other answer", same: "same answer" };

function render({ model, el }) {
  const id = `dobatch-explorer-${++views}`;
  const config = model.get("config");
  const limit = config.page_size;
  let page = model.get("page");
  let filters = { search: "", outcomes: [], error: null, change: null, slices: {}, bars: {}, cell: null, marked: false };
  let sort = null;
  let current = null; // position of the row in full
  let row = null; // that row, once it has come
  let asked = 0; // the newest query; older answers are not shown
  let askedRow = 0;
  let slow = 0;
  let afterPage = null; // what the keyboard wants to do with the next page

  // ---- talking to Python -----------------------------------------------------------------------------------
  function query(offset = 0) {
    const message = { kind: "query", id: `${id}/${++asked}`, filters, sort, offset, limit, current };
    waiting(true);
    model.send(message);
  }

  function waiting(on) {
    clearTimeout(slow);
    if (on) {
      slow = setTimeout(() => {
        root.setAttribute("aria-busy", "true");
        status.textContent = "Waiting for the kernel …";
      }, 600);
    } else {
      root.removeAttribute("aria-busy");
    }
  }

  function show(position) {
    current = position;
    model.send({ kind: "row", id: `${id}/row/${++askedRow}`, position });
    for (const line of body.children) {
      const chosen = Number(line.dataset.position) === position;
      line.setAttribute("aria-selected", String(chosen));
      line.tabIndex = chosen ? 0 : -1;
    }
  }

  function mark(position, change) {
    model.send({ kind: "mark", id: `${id}/mark`, position, ...change });
  }

  function receive(message) {
    if (message.kind === "page" && message.id === `${id}/${asked}`) {
      waiting(false);
      page = message;
      drawPage();
    } else if (message.kind === "row" && message.id === `${id}/row/${askedRow}`) {
      row = message;
      drawRow();
    } else if (message.kind === "mark") {
      marked(message);
    } else if (message.kind === "rate") {
      rated(message);
    } else if (message.kind === "problem" && String(message.id).startsWith(`${id}/`)) {
      waiting(false);
      status.textContent = `Something went wrong in Python: ${message.text}`;
    }
  }

  function marked({ position, marked: on, note, count }) {
    page.marked = count;
    drawMarkedFilter();
    for (const line of page.rows) {
      if (line.position !== position) continue;
      line.marked = on;
      line.noted = note !== "";
      const shown = [...body.children].find((tr) => Number(tr.dataset.position) === position);
      if (shown) drawStar(shown.querySelector("button"), line);
    }
    if (row && row.position === position) {
      row.marked = on;
      row.note = note;
      const button = detail.querySelector(".mark");
      if (button) drawMarkButton(button);
      const box = detail.querySelector("textarea");
      if (box && box !== document.activeElement) box.value = note;
    }
  }

  // ---- labels by people ------------------------------------------------------------------------------------
  const choices = config.choices || [];
  function rate(position, label) {
    model.send({ kind: "rate", id: `${id}/rate`, position, label });
  }

  function rated({ position, human, count, undone }) {
    if (position === null) return;
    labelled.textContent = `${number(count)} labelled`;
    for (const line of page.rows) if (line.position === position) line.human = human;
    const shown = [...body.children].find((tr) => Number(tr.dataset.position) === position);
    if (shown) {
      const cell = shown.querySelector("td.human");
      if (cell) cell.textContent = human ?? "";
    }
    if (row && row.position === position) {
      row.human = human;
      drawChoices();
    }
    if (undone) {
      if (shown) goTo(shown);
      else show(position);
    }
  }

  const labelled = make("span", { class: "hint", role: "status" });
  const chooser = make("div", { class: "chooser", role: "group", "aria-label": "Your label" });
  function drawChoices() {
    if (!choices.length || !row) return;
    chooser.replaceChildren(...choices.map((label, place) => make("button", {
      type: "button", class: "chip", "aria-pressed": String(row.human === label), "data-choice": label,
      onclick: () => rate(row.position, row.human === label ? null : label),
    }, make("kbd", { text: String(place + 1) }), ` ${label}`)), labelled);
  }

  function labelKeys(event) {
    if (!choices.length || current === null || event.ctrlKey || event.metaKey || event.altKey) return false;
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return false;
    const place = Number(event.key) - 1;
    if (Number.isInteger(place) && place >= 0 && place < choices.length) {
      rate(current, choices[place]);
      // On at once: whoever types quickly means the next row, answered or not.
      const next = [...body.children].find((tr) => Number(tr.dataset.position) === current)?.nextElementSibling;
      if (next) goTo(next);
      else turn(1, "first");
    } else if (event.key === "u") model.send({ kind: "undo", id: `${id}/rate` });
    else return false;
    event.preventDefault();
    return true;
  }

  // ---- filters ---------------------------------------------------------------------------------------------
  function change(part) {
    filters = { ...filters, ...part };
    query(0);
  }

  let typing = 0;
  const search = make("input", {
    type: "search", class: "search", placeholder: "Search the rows", "aria-label": "Search the rows",
    autocomplete: "off", spellcheck: "false",
    oninput: () => {
      clearTimeout(typing);
      typing = setTimeout(() => change({ search: search.value }), 120);
    },
  });

  const chips = make("div", { class: "chips", role: "group", "aria-label": "Outcome" });
  function drawChips() {
    const counts = page.outcomes_count || {};
    chips.replaceChildren(...config.outcomes.map((name) => make("button", {
      type: "button", class: `chip ${name}`, "aria-pressed": String(filters.outcomes.includes(name)),
      "data-outcome": name,
      onclick: () => {
        const on = filters.outcomes.includes(name);
        change({ outcomes: on ? filters.outcomes.filter((other) => other !== name) : [...filters.outcomes, name] });
      },
    }, make("span", { class: "sign", "aria-hidden": "true", text: MARKS[name] || "" }),
    `${name} `, make("span", { class: "count", text: number(counts[name] || 0) }))));
  }

  function select(label, choices, chosen, counts, onchoice) {
    const box = make("select", { "aria-label": label, onchange: () => onchoice(box.value) },
      make("option", { value: "", text: `${label}: all` }));
    for (const [value, text] of choices) {
      const count = counts && counts[value] !== undefined ? `  (${number(counts[value])})` : "";
      box.append(make("option", { value, text: `${text}${count}` }));
    }
    box.value = chosen ?? "";
    if (chosen !== null && chosen !== undefined && chosen !== "") box.classList.add("on");
    return box;
  }

  const selects = make("div", { class: "selects" });
  function drawSelects() {
    const focused = [...selects.children].indexOf(document.activeElement);
    const boxes = [];
    if (config.errors.length) {
      boxes.push(select("error", config.errors.map((code) => [code, code]), filters.error, page.errors_count,
        (value) => change({ error: value || null })));
    }
    if (config.changes.length) {
      boxes.push(select("second run", config.changes.map((name) => [name, CHANGES[name]]), filters.change,
        page.changes_count, (value) => change({ change: value || null })));
    }
    config.slices.forEach(({ name, values }, place) => {
      const chosen = filters.slices[place];
      boxes.push(select(name, values.map((value, at) => [String(at), value]),
        chosen === undefined ? "" : String(chosen), null, (value) => {
          const slices = { ...filters.slices };
          if (value === "") delete slices[place];
          else slices[place] = Number(value);
          change({ slices });
        }));
    });
    selects.replaceChildren(...boxes);
    if (focused >= 0 && selects.children[focused]) selects.children[focused].focus();
  }

  const markedFilter = make("button", {
    type: "button", class: "chip marked", onclick: () => change({ marked: !filters.marked }),
  });
  function drawMarkedFilter() {
    markedFilter.setAttribute("aria-pressed", String(filters.marked));
    markedFilter.replaceChildren(make("span", { class: "sign", "aria-hidden": "true", text: "★" }), "marked ",
      make("span", { class: "count", text: number(page.marked) }));
  }

  const reset = make("button", {
    type: "button", class: "plain", text: "Reset",
    onclick: () => {
      search.value = "";
      sort = null;
      filters = { search: "", outcomes: [], error: null, change: null, slices: {}, bars: {}, cell: null, marked: false };
      query(0);
    },
  });

  // ---- confusion matrix ------------------------------------------------------------------------------------
  const matrix = make("div", { class: "matrix", hidden: !config.classes });
  let corner = [0, 0]; // the matrix's one cell that Tab reaches
  function drawMatrix() {
    if (!config.classes || !page.confusion) return;
    const held = matrix.contains(document.activeElement) && document.activeElement.dataset.cell !== undefined;
    const failed = page.confusion.some((line) => line[config.classes.length] > 0);
    const across = failed ? [...config.classes, "(failed)"] : config.classes;
    const table = make("table", { role: "grid", "aria-label": "Confusion matrix: gold down, answers across" },
      make("thead", {}, make("tr", {}, make("th", { class: "corner", text: "gold ↓  answer →" }),
        ...across.map((name) => make("th", { scope: "col", title: name }, make("span", { text: name }))))));
    const lines = make("tbody");
    corner = [Math.min(corner[0], config.classes.length - 1), Math.min(corner[1], across.length - 1)];
    page.confusion.forEach((counts, truth) => {
      const total = counts.reduce((sum, count) => sum + count, 0);
      const line = make("tr", {}, make("th", { scope: "row", title: config.classes[truth] },
        make("span", { text: config.classes[truth] })));
      across.forEach((name, guess) => {
        const count = counts[guess];
        const on = filters.cell !== null && filters.cell[0] === truth && filters.cell[1] === guess;
        const button = make("button", {
          type: "button", class: truth === guess ? "right" : "off", "aria-pressed": String(on),
          "data-cell": `${truth},${guess}`, tabindex: corner[0] === truth && corner[1] === guess ? 0 : -1,
          "aria-label": `gold ${config.classes[truth]}, answer ${name}: ${number(count)} rows`,
          onclick: () => {
            corner = [truth, guess];
            change({ cell: on ? null : [truth, guess] });
          },
          text: number(count),
        });
        button.style.setProperty("--depth", `${total ? Math.round((count / total) * 38) : 0}%`);
        if (!count) button.classList.add("none");
        line.append(make("td", {}, button));
      });
      lines.append(line);
    });
    table.append(lines);
    table.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      moveCorner(corner[0] + step[0], corner[1] + step[1]);
    });
    matrix.replaceChildren(table);
    if (held) moveCorner(...corner);
  }

  function moveCorner(truth, guess) {
    const next = matrix.querySelector(`[data-cell="${truth},${guess}"]`);
    if (!next) return;
    for (const button of matrix.querySelectorAll("button")) button.tabIndex = -1;
    corner = [truth, guess];
    next.tabIndex = 0;
    next.focus();
  }

  // ---- the table -------------------------------------------------------------------------------------------
  const head = make("tr", { role: "row", "aria-rowindex": "1" });
  function drawHead() {
    const cells = [make("th", { class: "star", role: "columnheader", scope: "col" },
      make("span", { class: "unseen", text: "marked" }))];
    const width = `width: max(60px, min(30cqw, ${Math.min(24, config.label_length || 0) + 3}ch))`;
    const titled = [{ name: "index", kind: "dx-label", place: -1, width },
      ...config.columns.map((column, place) => ({ ...column, place }))];
    for (const { name, kind, place, width } of titled) {
      const on = sort && sort.column === place;
      const arrow = on ? (sort.descending ? " ↓" : " ↑") : "";
      cells.push(make("th", {
        class: kind, role: "columnheader", scope: "col", style: width,
        "aria-sort": on ? (sort.descending ? "descending" : "ascending") : "none",
      }, make("button", {
        type: "button", title: `Sort by ${name}`, "data-sort": place,
        onclick: () => {
          sort = !on ? { column: place, descending: false } : sort.descending ? null : { ...sort, descending: true };
          query(0);
          head.querySelector(`[data-sort="${place}"]`)?.focus();
        },
      }, make("span", { text: name }), make("span", { class: "arrow", "aria-hidden": "true", text: arrow })),
      place >= 0 ? drawBars(place, name) : null));
    }
    if (choices.length) cells.push(make("th", { class: "human", role: "columnheader", scope: "col", text: "label" }));
    const focused = head.contains(document.activeElement) ? document.activeElement.dataset.sort : null;
    head.replaceChildren(...cells);
    if (focused) head.querySelector(`[data-sort="${focused}"]`)?.focus();
  }

  /** What the column holds, as bars that filter. */
  function drawBars(place, name) {
    const names = config.columns[place].bars;
    const counts = (page.bars_count || {})[place];
    if (!names || !counts) return null;
    const most = Math.max(1, ...counts);
    return make("div", { class: "bars", role: "group", "aria-label": `Values of ${name}` },
      ...names.map((value, at) => {
        const on = filters.bars[place] === at;
        const words = `${value}: ${number(counts[at])}`;
        const bar = make("button", {
          type: "button", title: words, "aria-label": words, "aria-pressed": String(on), "data-bar": `${place},${at}`,
          tabindex: -1,
          onclick: () => {
            const bars = { ...filters.bars };
            if (on) delete bars[place];
            else bars[place] = at;
            change({ bars });
          },
        }, make("i", { "aria-hidden": "true" }));
        bar.firstChild.style.height = `${counts[at] ? Math.max(8, Math.round((counts[at] / most) * 100)) : 0}%`;
        return bar;
      }));
  }

  function drawStar(button, line) {
    button.textContent = line.marked ? "★" : line.noted ? "✎" : "☆";
    button.classList.toggle("on", line.marked || line.noted);
    button.setAttribute("aria-pressed", String(line.marked));
    button.setAttribute("aria-label", `Mark row ${line.label}`);
  }

  const body = make("tbody", { onkeydown: rowKeys });
  function drawBody() {
    const lines = page.rows.map((line, place) => {
      const star = make("button", {
        type: "button", tabindex: -1,
        onclick: (event) => {
          event.stopPropagation();
          mark(line.position, { marked: !line.marked });
        },
      });
      drawStar(star, line);
      const cells = line.cells.map((text, at) => {
        const kind = config.columns[at].kind;
        const shown = kind === "outcome"
          ? make("span", { class: `dx-badge ${text}`, title: line.error || text },
            make("span", { "aria-hidden": "true", text: `${MARKS[text]} ` }), line.error || text)
          : make("span", { text: text === null ? "–" : text });
        return make("td", { role: "gridcell", class: text === null ? `${kind} null` : kind }, shown);
      });
      return make("tr", {
        role: "row", "data-position": line.position, "aria-rowindex": page.offset + place + 2,
        "aria-selected": String(line.position === current), tabindex: -1,
        onclick: () => show(line.position),
      }, make("td", { class: "star", role: "gridcell" }, star),
      make("td", { class: "dx-label", role: "gridcell" }, make("span", { text: line.label ?? "–" })), ...cells,
      choices.length ? make("td", { class: "human", role: "gridcell", text: line.human ?? "" }) : null);
    });
    body.replaceChildren(...lines);
    const reachable = lines.find((line) => Number(line.dataset.position) === current) || lines[0];
    if (reachable) reachable.tabIndex = 0;
  }

  function rowKeys(event) {
    const line = event.target.closest("tr");
    if (!line || labelKeys(event)) return;
    const place = [...body.children].indexOf(line);
    const last = body.children.length - 1;
    const moves = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: last };
    if (event.key in moves) {
      event.preventDefault();
      if (moves[event.key] > last) turn(1, "first");
      else if (moves[event.key] < 0) turn(-1, "last");
      else goTo(body.children[moves[event.key]]);
    } else if (event.key === "PageDown" || event.key === "PageUp") {
      event.preventDefault();
      turn(event.key === "PageDown" ? 1 : -1, "first");
    } else if (event.key === "Enter" && event.target === line) {
      event.preventDefault();
      if (Number(line.dataset.position) !== current) show(Number(line.dataset.position));
      detail.focus();
    } else if (event.key === " " && event.target === line) {
      event.preventDefault();
      line.querySelector("button").click();
    }
  }

  function goTo(line) {
    if (!line) return;
    line.focus({ preventScroll: true });
    line.scrollIntoView({ block: "nearest" });
    show(Number(line.dataset.position));
  }

  function turn(by, then) {
    const offset = page.offset + by * limit;
    if (offset < 0 || offset >= page.total) return;
    afterPage = then;
    query(offset);
  }

  const status = make("span", { class: "status", role: "status", "aria-live": "polite" });
  const back = make("button", { type: "button", class: "plain", "aria-label": "Previous page", text: "‹",
    onclick: () => turn(-1, null) });
  const forth = make("button", { type: "button", class: "plain", "aria-label": "Next page", text: "›",
    onclick: () => turn(1, null) });

  function drawPage() {
    drawChips();
    drawSelects();
    drawMarkedFilter();
    drawMatrix();
    drawHead();
    drawBody();
    const upTo = page.offset + page.rows.length;
    status.textContent = page.total
      ? `${number(page.offset + 1)}–${number(upTo)} of ${number(page.total)} rows`
        + (page.total < config.rows ? ` (${number(config.rows)} in all)` : "")
      : `No row matches (${number(config.rows)} in all)`;
    back.disabled = page.offset === 0;
    forth.disabled = upTo >= page.total;
    grid.setAttribute("aria-rowcount", String(page.total + 1));
    const filtered = filters.search || filters.outcomes.length || filters.error !== null || filters.change !== null
      || filters.cell !== null || filters.marked || Object.keys(filters.bars).length || Object.keys(filters.slices).length || sort;
    reset.disabled = !filtered;
    if (afterPage) {
      goTo(afterPage === "last" ? body.lastElementChild : body.firstElementChild);
      afterPage = null;
    } else {
      scroller.scrollTop = 0;
      if (asked && !page.held) chooseAnother();
    }
    root.dataset.page = String(asked); // tells a test which answer is on the screen
  }

  // ---- one row in full -------------------------------------------------------------------------------------
  const hint = make("p", { class: "hint", text: "Choose a row to read it in full. ↑ ↓ move, Enter reads, Space marks." });

  /** The row in full has been filtered away: the first that is left takes its place. */
  function chooseAnother() {
    if (page.rows.length) {
      show(page.rows[0].position);
      return;
    }
    current = row = null;
    askedRow += 1; // what is still on its way is not shown
    detail.replaceChildren(hint);
  }

  const detail = make("section", {
    class: "detail", "aria-label": "The row in full", tabindex: 0,
    onkeydown: (event) => {
      if (labelKeys(event)) return;
      if (event.key === "Escape") body.querySelector('[tabindex="0"]')?.focus();
    },
  }, hint);

  function drawMarkButton(button) {
    button.setAttribute("aria-pressed", String(row.marked));
    button.textContent = row.marked ? "★ marked" : "☆ mark";
  }

  function drawRow() {
    const shown = row;
    const title = make("h3", {}, make("span", { text: `Row ${shown.label ?? "–"}` }));
    if (shown.outcome) title.append(make("span", { class: `dx-badge ${shown.outcome}`, text: shown.outcome }));
    if (shown.error) title.append(make("span", { class: "dx-badge failed", text: shown.error }));
    if (shown.change) title.append(make("span", { class: "dx-badge", text: CHANGES[shown.change] || shown.change }));
    const button = make("button", {
      type: "button", class: "chip mark", onclick: () => mark(shown.position, { marked: !shown.marked }),
    });
    drawMarkButton(button);
    title.append(button);

    let noting = 0;
    const note = make("textarea", {
      rows: 2, placeholder: "A note on this row", "aria-label": "A note on this row",
      oninput: () => {
        clearTimeout(noting);
        noting = setTimeout(save, 300);
      },
      onblur: () => {
        clearTimeout(noting);
        save();
      },
    });
    note.value = shown.note;
    let saved = shown.note;
    function save() {
      if (note.value === saved) return;
      saved = note.value;
      mark(shown.position, { note: saved });
    }

    // Target and answer first, in a line each where they are short; then what led to them.
    const parts = [title];
    if (choices.length) {
      drawChoices();
      parts.push(chooser);
    }
    const brief = shown.sections.filter(({ text }) => short(text));
    if (brief.length) {
      parts.push(make("dl", { class: "brief" }, ...brief.flatMap(({ title: name, text }) =>
        [make("dt", { text: name }), make("dd", { class: text === null ? "null" : null, text: text ?? "none" })])));
    }
    for (const { title: name, text } of shown.sections.filter(({ text }) => !short(text))) {
      parts.push(make("h4", { text: name }), text === null
        ? make("p", { class: "null", text: "none" })
        : make("pre", { class: "value", text }));
    }
    if (shown.diff && shown.diff.some(([, text]) => /\s/.test(text))) {
      parts.push(make("h4", { text: "From the first answer to the other" }), make("pre", { class: "value diff" },
        ...shown.diff.map(([kind, text]) => make({ "-": "del", "+": "ins" }[kind] || "span", { text }))));
    } else if (shown.diff === null) {
      parts.push(make("p", { class: "hint", text: "Both answers are the same." }));
    }
    parts.push(note);
    for (const [role, text] of shown.messages || []) {
      parts.push(make("h4", { class: "role", text: role }), make("pre", { class: `value ${role}`, text }));
    }
    if (shown.parameters) parts.push(make("p", { class: "hint", text: `Parameters: ${shown.parameters}` }));
    if (shown.spent) parts.push(make("p", { class: "hint spent", text: `Used: ${shown.spent}` }));
    if (shown.schema) {
      parts.push(make("details", {}, make("summary", { text: "Schema" }), make("pre", { class: "value", text: shown.schema })));
    }
    if (shown.fields.length) {
      parts.push(make("h4", { text: "Other columns" }), make("dl", {}, ...shown.fields.flatMap(([name, value]) =>
        [make("dt", { text: name }), make("dd", { class: value === null ? "null" : null, text: value ?? "–" })])));
    }
    detail.replaceChildren(...parts);
    detail.scrollTop = 0;
  }

  // ---- all together ----------------------------------------------------------------------------------------
  const grid = make("table", { class: "rows", role: "grid", "aria-label": "Matching rows" },
    make("thead", {}, head), body);
  const widths = { outcome: 130, short: 112, number: 92, text: 210 };
  const fixed = 32 + 60 + (choices.length ? 90 : 0);
  const least = config.columns.reduce((sum, { kind }) => sum + (widths[kind] || 100), fixed);
  grid.style.minWidth = `${least}px`;
  const scroller = make("div", { class: "scroller" }, grid);
  // Lab and Notebook catch keys before any element sees them, unless this attribute says not to.
  const picture = `${config.mark}-picture`; // the output below, for when this is gone
  const hidden = `body:has(.${config.mark}) :is(.${picture}, .jp-OutputArea-child:has(.${picture})) { display: none; }`;
  const root = make("div", { class: `dobatch-explorer ${config.mark}`, "data-lm-suppress-shortcuts": "true" },
    make("style", { text: hidden }),
    make("header", {}, make("strong", { text: config.title }), make("span", { class: "summary", text: config.summary })),
    make("div", { class: "tools", role: "search" }, search, chips, markedFilter, selects, reset),
    make("div", { class: "main" }, matrix,
      make("div", { class: "table" }, scroller, make("div", { class: "pager" }, back, forth, status)), detail));
  el.append(root);
  drawPage();
  model.on("msg:custom", receive);
  const again = () => {
    labelled.textContent = "";
    query(0);
    if (current !== null) show(current);
  };
  model.on("change:rater", again);
  if (page.rows.length) show(page.rows[0].position);
  if (model.get("touched")) query(0); // shown once more: marks have come since the first page was made
  return () => {
    clearTimeout(typing);
    clearTimeout(slow);
    model.off("msg:custom", receive);
    model.off("change:rater", again);
  };
}

export default { render };
