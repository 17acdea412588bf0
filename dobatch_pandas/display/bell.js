// "Notify me": the browser's own notification when a job ends. Hidden where the browser would show none: in a frame of
// another origin, over plain http from elsewhere, after a no. Nothing here asks the kernel, which may be busy.
const canNotify = () =>
  window.isSecureContext && "Notification" in window && Notification.permission !== "denied" &&
  !/Android/.test(navigator.userAgent); // there, only a service worker may notify

// Once a page for each job, however many cells show it.
function initialize({ model }) {
  model.on("change:end", () => {
    const { title, body } = model.get("end");
    if (!title || !model.get("wanted") || !canNotify()) return;
    // The tag makes one of what several windows tell.
    const told = new Notification(title, { body, tag: `${title} ${body}` });
    told.onclick = () => {
      window.focus();
      told.close();
    };
  });
}

function bell({ model, place }) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "lm-Widget jupyter-widgets jupyter-button widget-button";
  made.style.width = "auto";
  made.title = "Show a notification of this browser when the job ends";
  const draw = () => {
    const wanted = model.get("wanted") && canNotify();
    made.style.display = canNotify() && !model.get("end").title ? "" : "none";
    made.textContent = wanted ? "Will notify you" : "Notify me";
    made.setAttribute("aria-pressed", String(wanted));
  };
  made.addEventListener("click", async () => {
    const wanted = !model.get("wanted") && (await Notification.requestPermission()) === "granted";
    model.set("wanted", wanted);
    model.save_changes();
    draw();
  });
  const names = ["change:end", "change:wanted"];
  for (const name of names) model.on(name, draw);
  draw();
  place.append(made);
  return () => names.forEach((name) => model.off(name, draw));
}
