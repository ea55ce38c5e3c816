// Live refresh, a count beside the ticks, and passkeys. Every page works without this file, but passkeys do not.
"use strict";
(() => {
  const policy = window.trustedTypes
    ? window.trustedTypes.createPolicy("console", { createHTML: (ownPage) => ownPage })
    : { createHTML: (ownPage) => ownPage };

  const control = document.querySelector("[data-live-control]");
  if (control) {
    const seconds = Number(control.dataset.liveControl);
    const say = document.getElementById("say");
    const said = () => document.querySelector("[data-say]")?.textContent.trim() ?? "";
    let last = said();
    let timer = 0;
    let on = localStorage.getItem("live") !== "off";

    const button = document.createElement("button");
    button.type = "button";
    const standing = document.createElement("span");
    control.append(standing, button);

    const show = (text) => {
      standing.textContent = text;
      button.textContent = "Live";
      button.setAttribute("aria-pressed", String(on));
      button.title = on ? `Refreshes every ${seconds} seconds; press to hold` : "Held; press to refresh by itself";
    };
    // What somebody is using stays as it is under their hands.
    const isBusy = (part) => {
      const selection = document.getSelection();
      return part.contains(document.activeElement)
        || (selection && !selection.isCollapsed && part.contains(selection.anchorNode));
    };
    const plan = () => {
      clearTimeout(timer);
      if (on && !document.hidden) timer = setTimeout(refresh, seconds * 1000);
    };
    const refresh = async () => {
      try {
        const answer = await fetch(location.href, { headers: { "x-live": "1" }, redirect: "manual", cache: "no-store" });
        if (answer.type === "opaqueredirect") {
          on = false;
          show("You are signed out");
          return;
        }
        const fresh = new DOMParser().parseFromString(policy.createHTML(await answer.text()), "text/html");
        for (const part of document.querySelectorAll("[data-live-part]")) {
          const next = fresh.getElementById(part.id);
          if (next && !isBusy(part)) part.replaceChildren(...document.adoptNode(next).childNodes);
        }
        show("");
        if (said() !== last) say.textContent = last = said();
      } catch {
        show("The console does not answer");
      }
      plan();
    };
    button.addEventListener("click", () => {
      on = !on;
      localStorage.setItem("live", on ? "on" : "off");
      show("");
      if (on) refresh(); else plan();
    });
    document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : on && refresh()));
    show("");
    plan();
  }

  const picks = document.querySelector("[data-picks]");
  const count = picks?.querySelector("[data-picked-count]");
  if (count) {
    const boxes = [...picks.querySelectorAll("input[name=ids]")];
    const all = document.createElement("input");
    all.type = "checkbox";
    all.setAttribute("aria-label", "Pick every letter of this page");
    picks.querySelector("thead .pick").replaceChildren(all);
    const tell = () => {
      const picked = boxes.filter((box) => box.checked).length;
      all.checked = picked === boxes.length;
      all.indeterminate = picked > 0 && picked < boxes.length;
      count.textContent = picked === 1 ? "1 letter ticked:" : `${picked} letters ticked:`;
      for (const button of picks.querySelectorAll("button[name=action]")) button.disabled = picked === 0;
    };
    all.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; tell(); });
    picks.addEventListener("change", tell);
    tell();
  }

  // What a form needs signed, the browser asks a passkey for; its answer goes with the form.
  for (const form of document.querySelectorAll("form[data-passkey]")) {
    const fault = form.querySelector("[data-passkey-fault]");
    form.addEventListener("submit", async (event) => {
      const field = form.elements.proof ?? form.elements.passkey;
      if (field.value) return;
      event.preventDefault();
      fault.hidden = true;
      try {
        const options = JSON.parse(form.dataset.options);
        const made = form.dataset.passkey === "create"
          ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
          : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
        field.value = JSON.stringify(made.toJSON());
        form.submit();
      } catch {
        fault.textContent = "No passkey has answered, so nothing was signed. Try again, or sign at a shell.";
        fault.hidden = false;
      }
    });
  }
})();
