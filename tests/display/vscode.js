// A page as VS Code's notebooks have it: their widget manager, on a real kernel, in a frame with nothing of Jupyter's.
async (cells) => {
  const frame = document.querySelector("#vscode").contentWindow;
  const page = frame.document, outputs = page.querySelector("#outputs");
  const kernel = await window.jupyterapp.serviceManager.kernels.startNew({ name: "python3" });
  frame.vscActivate();
  frame.vscIPyWidgets8.load();
  const scripts = {
    widgetsRegisteredInRequireJs: new Set(),
    successHandler() {},
    errorHandler: (...what) => console.error("widget", ...what.map(String)),
    // VS Code fetches a widget's script from the folder of the kernel's nbextensions.
    async loadWidgetScript(name) {
      frame.requirejs.config({ paths: { [name]: frame.nbextension(name) } });
    },
  };
  const manager = new frame.vscIPyWidgets.WidgetManager(kernel, outputs, scripts, () => {});
  const shown = {};
  const show = async (place, data) => {
    place.replaceChildren();
    const view = data["application/vnd.jupyter.widget-view+json"];
    if (view) {
      place.classList.add("cell-output-ipywidget-background");
      const model = await manager.get_model(view.model_id);
      await manager.display_view({}, await manager.create_view(model, {}), { node: place });
    } else if (data["text/html"] !== undefined) {
      place.append(page.createRange().createContextualFragment(data["text/html"]));
    } else {
      place.textContent = data["text/plain"];
    }
  };
  let last = Promise.resolve();
  const put = (message) => {
    const { data, transient = {} } = message.content;
    const id = transient.display_id;
    if (message.header.msg_type === "update_display_data") {
      if (shown[id]) last = last.then(() => show(shown[id], data));
      return;
    }
    const place = outputs.appendChild(page.createElement("div"));
    place.className = "output";
    if (id) shown[id] = place;
    last = last.then(() => show(place, data));
  };
  const seen = new Set();
  kernel.iopubMessage.connect((_, message) => {
    const type = message.header.msg_type;
    if (["display_data", "execute_result", "update_display_data"].includes(type) && !seen.has(message.header.msg_id)) {
      seen.add(message.header.msg_id);
      put(message);
    }
    if (type === "error") outputs.append(message.content.evalue);
  });
  frame.run = async (code) => {
    await kernel.requestExecute({ code }).done;
    await last;
  };
  for (const code of cells) await frame.run(code);
}
