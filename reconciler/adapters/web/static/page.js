"use strict";

const post = (path, body) =>
  fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json", "X-Reconciler": "page" },
    body: JSON.stringify(body),
  });

async function signIn(form, token) {
  const answer = await post("/login", { token });
  if (answer.ok) location.pathname === "/login" ? location.replace("/stacks") : location.reload();
  else form.querySelector(".outcome").textContent = answer.status === 429 ? form.dataset.many : form.dataset.bad;
}

async function approve(button) {
  button.disabled = true;
  const answer = await post("/approve", { stack: button.dataset.stack, digest: button.dataset.approve });
  const told = await answer.json().catch(() => ({}));
  button.closest("dialog").close();
  const outcome = document.querySelector(`.outcome[data-of="${button.dataset.approve}"]`);
  outcome.textContent = answer.ok ? button.dataset.done : button.dataset.failed + (told.error || answer.status);
  button.disabled = false;
  if (answer.ok) document.getElementById("b" + button.dataset.approve.slice(0, 12)).remove();
}

async function renew() {
  if (document.querySelector("dialog[open]") || document.activeElement.matches("main input")) return;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
  const main = document.querySelector("main");
  const focus = document.activeElement;
  const place = main.contains(focus) ? [...main.querySelectorAll("a, button, summary, pre, input")].indexOf(focus) : -1;
  const open = [...main.querySelectorAll("details")].map((one) => one.open);
  fresh.querySelectorAll("details").forEach((one, number) => (one.open = open[number] || false));
  main.replaceChildren(...fresh.childNodes);
  if (place >= 0) main.querySelectorAll("a, button, summary, pre, input")[place]?.focus({ preventScroll: true });
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.dialog) document.getElementById(button.dataset.dialog).showModal();
  else if (button?.dataset.approve) approve(button);
});

const login = document.getElementById("login");
if (login) {
  login.addEventListener("submit", (event) => {
    event.preventDefault();
    signIn(login, document.getElementById("token").value);
  });
  const token = location.hash.slice(1);
  history.replaceState(null, "", location.pathname + location.search);
  if (token) signIn(login, token);
}

const { news, live, lost, now } = document.body.dataset;
if (news) {
  const said = document.getElementById("live");
  const source = new EventSource(news);
  let known = "";
  const told = (event) => {
    said.textContent = live;
    if (known && known !== event.data) renew().then(() => (said.textContent = `${now} ${new Date().toLocaleTimeString()}`));
    known = event.data;
  };
  source.addEventListener("open", (event) => event.data && told(event));
  source.addEventListener("changed", told);
  source.addEventListener("error", () => (said.textContent = lost));
  addEventListener("pagehide", () => source.close());
}
