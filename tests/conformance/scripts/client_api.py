"""Scenes for `dashscope.Client`, new in 2.0: typed answers, errors raised, failed requests sent again.

What the typed side adds to the module API is checked here: a wrong type in an answer raises, and a refusal comes as the
class its code stands for.
"""

import asyncio
import time

import dashscope
from dashscope.v2 import errors

WORDS = [{"text": "热词", "weight": 4}, {"text": "fine tuning", "weight": 2, "lang": "en"}]
NOT_FOUND = (errors.NotFoundError, 404, "Not found!")
NO_MODEL = (errors.NotFoundError, 404, "Model not exist.")
NO_FILE = (errors.NotFoundError, 400, "File not found.")
"""The Client makes a NotFoundError of this 400 by its message."""


def files(stage):
    """Upload, list page by page, get, delete; then it is gone."""
    client = _client(stage)
    first = _uploaded(stage, client, "sft", description="客服 α")
    second = _uploaded(stage, client, "dpo")
    newest = client.files.list(page_no=1, page_size=1)
    stage.equal("the list counts both", newest.total_count, 2)
    stage.equal("the newest comes first", [file.file_id for file in newest.files], [second])
    shown = client.files.get(first)
    stage.equal("the description came through", shown.description, "客服 α")
    stage.equal("the size is typed", shown.size, stage.facts["size"])
    stage.equal("every byte arrived", shown.md5, stage.facts["md5"])
    stage.equal("delete", client.files.delete(first).deleted, True)
    for what, call in (("get", client.files.get), ("delete", client.files.delete)):
        _refused(stage, f"{what} of what is gone", NO_FILE, call, first)


def local_checks(stage):
    """An archive is refused locally under either spelling of the purpose; a third word passes."""
    client = _client(stage)
    for purpose in ("fine-tune", "fine_tune"):
        try:
            client.files.upload(file_path=stage.facts["zip"], purpose=purpose)
            refused = False
        except Exception:
            refused = True
        stage.true(f"refused as {purpose}", refused)
    stage.equal("nothing was sent", client.files.list().total_count, 0)
    _uploaded(stage, client, "zip", purpose="training")


def a_model_from_upload_to_deletion(stage):
    """Everything a user does with one tuned model, each step from what the step before answered."""
    client = _client(stage)
    file_id = _uploaded(stage, client, "sft")
    job = _trained(stage, client, "sft", file_id)
    stage.equal("one job is listed", [row.job_id for row in client.fine_tunes.list().jobs], [job.job_id])
    stage.true("tokens are told", job.usage.total_tokens > 0, job.usage.total_tokens)
    stage.true("both times are told", job.created_at < job.finished_at, [job.created_at, job.finished_at])
    stage.equal("the null that was sent came back as a list", job.validation_file_ids, [])
    deployed = _deployed(stage, client, job.finetuned_model)
    listed = client.deployments.list().deployments
    stage.equal("one deployment is listed", [row.deployed_model for row in listed], [deployed])
    stage.equal("of the tuned model", listed[0].model, job.finetuned_model)
    _ask(stage, client, deployed)
    _scale(stage, client, deployed)
    stage.equal("delete is DELETING", client.deployments.delete(deployed).status, "DELETING")
    stage.until("gone in the end", lambda: _status(lambda: client.deployments.get(deployed)), 404)
    _refused(
        stage, "a call of what is gone", NO_MODEL, client.chat.completions.create, model=deployed, messages="hello"
    )
    stage.equal("the job's record goes", client.fine_tunes.delete(job.job_id).status, "success")
    stage.equal("the file goes", client.files.delete(file_id).deleted, True)


def deployment_of_a_base_model(stage):
    client = _client(stage)
    first = _deployed(stage, client, stage.facts["model"]["sft"], suffix="one")
    second = _deployed(stage, client, stage.facts["model"]["sft"], suffix="two")
    stage.true("the suffixes end the ids", first.endswith("-one") and second.endswith("-two"), [first, second])
    page = client.deployments.list(page_no=2, page_size=1)
    stage.equal("the second page holds the older", [row.deployed_model for row in page.deployments], [first])


def preferences(stage):
    client = _client(stage)
    job = _trained(stage, client, "dpo", _uploaded(stage, client, "dpo"))
    stage.equal("the type is shown as asked", job.training_type, stage.facts["mode"]["dpo"])


def pictures(stage):
    client = _client(stage)
    job = _trained(stage, client, "zip", _uploaded(stage, client, "zip", purpose="training"))
    stage.equal("the base model is shown", job.base_model, stage.facts["model"]["zip"])


def plain_text(stage):
    """Continued pre-training came after December 2024."""
    client = _client(stage)
    file_id = _uploaded(stage, client, "cpt")
    if stage.facts["profile"] == "2026":
        _trained(stage, client, "cpt", file_id)
    else:
        wanted = {"model": stage.facts["model"]["sft"], "training_file_ids": file_id, "mode": "cpt"}
        _refused(stage, "cpt in 2024", _bad_request("training_type"), client.fine_tunes.create, **wanted)


def data_that_cannot_be_trained_on(stage):
    """`wait` raises with the code and the message of the job."""
    client = _client(stage)
    job = _created(stage, client, "sft", _uploaded(stage, client, "cpt"))
    try:
        client.fine_tunes.wait(job)
        raised = None
    except errors.DashScopeError as error:
        raised = error
    stage.equal("raised as the code says", type(raised).__name__, "BadRequestError")
    stage.contains("with a reason", str(raised), "has no messages")
    shown = client.fine_tunes.get(job.job_id)
    stage.equal("the job says it too", (shown.status, shown.code, shown.is_error), ("FAILED", "InvalidParameter", True))


def logs(stage):
    client = _client(stage)
    job = _trained(stage, client, "sft", _uploaded(stage, client, "sft"))
    whole = client.fine_tunes.logs(job.job_id, offset=0).content.split("\n")
    rest = client.fine_tunes.logs(job.job_id).content.split("\n")
    stage.equal("the default begins at the second", rest, whole[1:])
    two = client.fine_tunes.logs(job.job_id, offset=1, lines=2).content.split("\n")
    stage.equal("two lines are two", two, whole[1:3])
    stage.contains("the last line says so", whole[-1], "##FT_COMPLETE##")
    stage.true("tokens are in it", any(f"tokens is {job.usage.total_tokens}!" in line for line in whole))


def events(stage):
    client = _client(stage)
    job = _created(stage, client, "sft", _uploaded(stage, client, "sft"))
    told = [event.output for event in client.fine_tunes.stream_events(job.job_id)]
    stage.equal("the job is over", client.fine_tunes.get(job.job_id).status, "SUCCEEDED")
    stage.equal("events are the log", told, client.fine_tunes.logs(job.job_id, offset=0).content.split("\n"))


def cancel_and_delete(stage):
    client = _client(stage)
    job = _created(stage, client, "sft", _uploaded(stage, client, "sft"))
    jobs = client.fine_tunes
    _refused(stage, "deleting it unfinished", _bad_request("can not be deleted"), jobs.delete, job.job_id)
    stage.equal("cancel is accepted", jobs.cancel(job.job_id).status, "success")
    stage.equal("it is on its way", jobs.get(job.job_id).status, "CANCELING")
    try:
        jobs.wait(job.job_id)
        text = "no error"
    except errors.DashScopeError as error:
        text = str(error)
    stage.contains("waiting ends with the word", text, "was canceled while waiting")
    stage.equal("canceled, with one L", jobs.get(job.job_id).status, "CANCELED")
    _refused(stage, "canceling it again", _bad_request("can not be canceled"), jobs.cancel, job.job_id)
    stage.equal("delete", jobs.delete(job.job_id).status, "success")
    _refused(stage, "what is deleted", NOT_FOUND, jobs.get, job.job_id)


def vocabularies(stage):
    lists = _client(stage).audio.vocabularies
    stage.equal("none is a list too", lists.list().vocabularies, [])
    made = lists.create(target_model="paraformer-v2", prefix="hot", vocabulary=WORDS).vocabulary_id
    stage.contains("the prefix is in the id", made, "vocab-hot-")
    stage.equal("the words come back", lists.get(made).vocabulary, WORDS)
    stage.equal("update is no error", lists.update(made, vocabulary=[{"text": "新词", "weight": 5}]).is_error, False)
    stage.equal("they were replaced", lists.get(made).vocabulary, [{"text": "新词", "weight": 5}])
    lists.create(target_model="paraformer-v2", prefix="other", vocabulary=WORDS)
    stage.equal("the list filters", [row["vocabulary_id"] for row in lists.list(prefix="hot").vocabularies], [made])
    stage.equal("and pages", len(lists.list(page_index=1, page_size=1).vocabularies), 1)
    stage.equal("delete is no error", lists.delete(made).is_error, False)
    for what, call in (("get", lists.get), ("delete", lists.delete)):
        _refused(stage, f"{what} of what is gone", _bad_request("The Required resource not exist."), call, made)
    heavy = {"target_model": "paraformer-v2", "prefix": "hot", "vocabulary": [{"text": "热词", "weight": 6}]}
    _refused(stage, "a weight of 6", _bad_request("weight"), lists.create, **heavy)


def too_many_vocabularies(stage):
    """The code is one of throttling and decides the class, whatever the status."""
    lists = _client(stage).audio.vocabularies
    wanted = {"target_model": "paraformer-v2", "vocabulary": WORDS}
    for number in range(10):
        lists.create(prefix=f"n{number}", **wanted)
    throttled = (errors.RateLimitError, 400, "Free allocated quota exceeded.")
    _refused(stage, "the eleventh", throttled, lists.create, prefix="more", **wanted)


def phrases(stage):
    client = _client(stage)
    lists = client.audio.phrases
    made = lists.create(model="paraformer-v1", phrases={"热词": 4, "fine tuning": -2})
    stage.equal("create is final at once", made.status, "SUCCEEDED")
    changed = lists.update(made.phrase_id, model="paraformer-v1", phrases={"新词": 5})
    stage.equal("the id stays", changed.phrase_id, made.phrase_id)
    stage.equal("get names it by the same id", lists.get(made.phrase_id).phrase_id, made.phrase_id)
    second = lists.create(model="paraformer-v1", phrases={"热词": 4})
    page = lists.list(page_no=2, page_size=1)
    stage.equal("the second page holds the older", [row.phrase_id for row in page.phrases], [made.phrase_id])
    stage.equal("of two", page.total_count, 2)
    stage.equal("they are no jobs", client.fine_tunes.list().jobs, [])
    for phrase_id in (made.phrase_id, second.phrase_id):
        stage.equal("delete is no error", lists.delete(phrase_id).is_error, False)
        _refused(stage, "what is gone", NOT_FOUND, lists.get, phrase_id)
    _refused(stage, "a weight of 0", _bad_request("weight"), lists.create, model="paraformer-v1", phrases={"热词": 0})


def keys(stage):
    """Every operation wants the right key; the code makes it an AuthenticationError."""
    _keys_refused(stage, dashscope.Client(api_key="sk-other", base_url=stage.base_url))


def no_key(stage):
    """Without a key this client sends no header at all, where the module API raises before it sends anything."""
    _keys_refused(stage, dashscope.Client(base_url=stage.base_url))


def _keys_refused(stage, client):
    refused = (errors.AuthenticationError, 401, "Invalid API-key provided.")
    for part in (client.files, client.fine_tunes, client.deployments, client.audio.vocabularies):
        _refused(stage, f"{type(part).__name__}.list", refused, part.list)
    _refused(stage, "a call", refused, client.chat.completions.create, model="any", messages="hello")


def unknown_ids(stage):
    client = _client(stage)
    jobs, deployments, chat = client.fine_tunes, client.deployments, client.chat.completions
    for verb in (jobs.get, jobs.cancel, jobs.delete, jobs.logs):
        _refused(stage, f"{verb.__name__} of no job", NOT_FOUND, verb, "ft-nobody")
    _refused(stage, "events of no job", NOT_FOUND, list, jobs.stream_events("ft-nobody"))
    no_deployment = (errors.NotFoundError, 404, "Model: nobody not found!")
    for verb in (deployments.get, deployments.delete):
        _refused(stage, f"{verb.__name__} of no deployment", no_deployment, verb, "nobody")
    _refused(stage, "scaling no deployment", no_deployment, deployments.scale, "nobody", capacity=2)
    _refused(stage, "deploying no model", no_deployment, _deploy, stage, client, "nobody")
    _refused(stage, "no file", NO_FILE, client.files.get, "nobody")
    _refused(stage, "calling no model", NO_MODEL, chat.create, model="nobody", messages="hello")
    _refused(stage, "a stream of no model", NO_MODEL, chat.create, model="nobody", messages="hello", stream=True)


def conflicts(stage):
    """This client sends a create that was answered 409 twice more; the suffix keeps it at one deployment."""
    client = _client(stage)
    model = stage.facts["model"]["sft"]
    first = _deployed(stage, client, model, suffix="same")
    taken = (errors.APIStatusError, 409, f"Deployed model {first} already exists")
    _refused(stage, "the same suffix", taken, _deploy, stage, client, model, suffix="same")
    stage.equal("one was made", client.deployments.list().total_count, 1)


def bad_parameters(stage):
    client = _client(stage)
    file_id = _uploaded(stage, client, "sft")
    good = {"training_file_ids": file_id, "hyper_parameters": _hyper(stage), "model": stage.facts["model"]["sft"]}
    for what, arguments, message in (
        ("no files", {"training_file_ids": []}, "Missing training files"),
        ("an unknown model", {"model": "gpt"}, "Model not exist."),
        ("an unknown type", {"mode": "rlhf"}, "training_type"),
        ("epochs in words", {"hyper_parameters": {**_hyper(stage), "n_epochs": "many"}}, "n_epochs"),
    ):
        _refused(stage, what, _bad_request(message), client.fine_tunes.create, **{**good, **arguments})
    stage.equal("no job was made", client.fine_tunes.list().total_count, 0)


def bad_deployments(stage):
    client = _client(stage)
    for what, arguments, message in (
        ("a negative capacity", {"capacity": -1}, "Invalid capacity (-1)"),
        ("a capacity of a thousand", {"capacity": 1000}, "multiples of"),
        ("a suffix of nine", {"suffix": "ninechars"}, "suffix"),
    ):
        _refused(stage, what, _bad_request(message), _deploy, stage, client, stage.facts["model"]["sft"], **arguments)
    stage.equal("no deployment was made", client.deployments.list().total_count, 0)


def too_many_jobs(stage):
    """The account of this emulator has room for one; being throttled is tried again, in vain."""
    client = _client(stage)
    file_id = _uploaded(stage, client, "sft")
    _created(stage, client, "sft", file_id)
    wanted = {"model": stage.facts["model"]["sft"], "hyper_parameters": _hyper(stage)}
    throttled = (errors.RateLimitError, 429, "Only 1 fine-tune job in running or succeeded")
    _refused(stage, "the second", throttled, client.fine_tunes.create, training_file_ids=file_id, **wanted)


def too_many_files(stage):
    """The account is full. This client hides it: no error, and an id of None (contract §1.1)."""
    answer = _client(stage).files.upload(file_path=stage.facts["sft"])
    stage.equal("no id, no error", (answer.file_id, answer.is_error), (None, False))


def workspaces(stage):
    client = _client(stage)
    stage.equal("files", client.files.list(workspace="llm-other").total_count, 0)
    stage.equal("jobs", client.fine_tunes.list(workspace="llm-other").total_count, 0)


def errors_as_values(stage):
    """With `raise_on_error=False` a refusal is an object that says so."""
    client = dashscope.Client(api_key=stage.key, base_url=stage.base_url, raise_on_error=False)
    answer = client.fine_tunes.get("ft-nobody")
    stage.equal("it is an error", (answer.is_error, answer.code, answer.job_id), (True, "NotFound", None))


def the_name_of_the_model(stage):
    """`finetuned_model` goes out as `model_name`: the display name of what is made, not its id (contract §2.1)."""
    client = _client(stage)
    file_id = _uploaded(stage, client, "sft")
    job = client.fine_tunes.create(
        model=stage.facts["model"]["sft"],
        training_file_ids=[file_id],
        hyper_parameters=_hyper(stage),
        finetuned_model="support assistant",
    )
    stage.true("the id is the server's", job.finetuned_model.endswith(job.job_id), job.finetuned_model)


def openai_shape(stage):
    """The same client speaks the other shape of the call to the other root."""
    client = _client(stage)
    deployed = _deployed(stage, client, stage.facts["model"]["sft"], suffix="chat")
    compatible = f"{stage.origin}/compatible-mode/v1"
    other = dashscope.Client(api_key=stage.key, base_url=compatible, protocol="openai")
    ask = {"model": deployed, "messages": "你是谁?"}
    stage.until("found after a while", lambda: _status(lambda: other.chat.completions.create(**ask)), 200)
    answer = other.chat.completions.create(**ask)
    stage.contains("it heard the question", answer.output_text, "你是谁?")
    stage.equal("both shapes say the same", answer.output_text, client.chat.completions.create(**ask).output_text)
    usage = answer.usage
    stage.equal("usage adds up", usage.total_tokens, usage.input_tokens + usage.output_tokens)
    pieces = [chunk.delta.content or "" for chunk in other.chat.completions.create(**ask, stream=True) if chunk.choices]
    stage.equal("pieces join to the whole", "".join(pieces), answer.output_text)
    lost = {"model": "nobody", "messages": "hello"}
    _refused(stage, "an error of the other shape", NO_MODEL, other.chat.completions.create, **lost)


def async_twin(stage):
    """`AsyncClient` on one lifecycle: the same requests from another loop."""
    asyncio.run(_async_lifecycle(stage))


async def _async_lifecycle(stage):
    async with dashscope.AsyncClient(api_key=stage.key, base_url=stage.base_url) as client:
        file = await client.files.upload(file_path=stage.facts["sft"])
        job = await client.fine_tunes.create(
            model=stage.facts["model"]["sft"], training_file_ids=file.file_id, hyper_parameters=_hyper(stage)
        )
        stage.equal("the job waits", job.status, "PENDING")
        time.sleep(4 * 3600)  # emulated: its own waiting sleeps on the loop, which no clockwork reaches
        ended = await client.fine_tunes.wait(job.job_id)
        stage.equal("the job succeeded", ended.status, "SUCCEEDED")
        wanted = {"model": ended.finetuned_model, **stage.facts["deployment"]["client_api"]}
        deployed = (await client.deployments.create(**wanted)).deployed_model
        time.sleep(3600)
        stage.equal("it runs", (await client.deployments.get(deployed)).status, "RUNNING")
        answer = await client.chat.completions.create(model=deployed, messages="hello")
        stage.contains("it answers", answer.output_text, "hello")
        listed = (await client.deployments.list()).deployments
        stage.equal("it is listed", [row.deployed_model for row in listed], [deployed])
        stage.equal("delete", (await client.deployments.delete(deployed)).status, "DELETING")


def a_lost_create(stage):
    """The connection ends after the commit, each of the three times this client sends the create."""
    client = _client(stage)
    file_id = _uploaded(stage, client, "sft")
    try:
        _created(stage, client, "sft", file_id)
        raised = None
    except errors.APIConnectionError as error:
        raised = error
    stage.true("it raised", raised)


def a_failed_create(stage):
    client = _client(stage)
    refusal = (errors.InternalServerError, 500, "")
    _refused(stage, "the create", refusal, _created, stage, client, "sft", _uploaded(stage, client, "sft"))


def throttled_once(stage):
    """Sent again, and passed."""
    stage.equal("the list is there", _client(stage).files.list().total_count, 0)


def a_lost_deployment(stage):
    """The create is sent again by itself; the suffix makes a conflict of the repeat, and one deployment of both."""
    client = _client(stage)
    model = stage.facts["model"]["sft"]
    refusal = (errors.APIStatusError, 409, "already exists, please specify a suffix.")
    _refused(stage, "the repeat", refusal, _deploy, stage, client, model, suffix="once")
    stage.equal("one was made", client.deployments.list().total_count, 1)


def a_lost_vocabulary(stage):
    lists = _client(stage).audio.vocabularies
    try:
        lists.create(target_model="paraformer-v2", prefix="hot", vocabulary=WORDS)
        raised = None
    except errors.APIConnectionError as error:
        raised = error
    stage.true("it raised", raised)


def deployed_by_hand(stage):
    """Somebody deploys without asking the tool."""
    _deployed(stage, _client(stage), stage.facts["model"]["sft"], suffix="byhand")


def an_account_by_hand(stage):
    """What a team has made before it heard of the tool: data, runs, a run of a run, capacity, words; one run failed."""
    client = _client(stage)
    files = {kind: _uploaded(stage, client, kind) for kind in ("sft", "dpo")}
    first = _trained(stage, client, "sft", files["sft"])
    _trained(stage, client, "dpo", files["dpo"])
    wrong = _created(stage, client, "dpo", files["sft"])
    stage.until("data of the wrong kind fails", lambda: client.fine_tunes.get(wrong.job_id).status, "FAILED")
    _deployed(stage, client, first.finetuned_model, suffix="byhand")
    _deploy(stage, client, stage.facts["model"]["sft"], suffix="two")
    options = {"mode": stage.facts["mode"]["sft"], "hyper_parameters": _hyper(stage)}
    again = client.fine_tunes.create(
        model=first.finetuned_model, training_file_ids=files["sft"], validation_file_ids=files["sft"], **options
    )
    stage.equal("a run of its model waits", again.status, "PENDING")
    for prefix, words in (("meds", WORDS), ("names", WORDS[:1])):
        client.audio.vocabularies.create(target_model="paraformer-v2", prefix=prefix, vocabulary=words)


def used_by_hand(stage):
    """Somebody calls and scales what the tool has made."""
    client, deployed = _client(stage), stage.facts["deployed"]
    stage.equal("it is there", client.deployments.get(deployed).status, "RUNNING")
    stage.contains("and listed", [row.deployed_model for row in client.deployments.list().deployments], deployed)
    _ask(stage, client, deployed)
    _scale(stage, client, deployed)


def seen_by_hand(stage):
    """What somebody sees of it who did not make it."""
    shown = _client(stage).deployments.get(stage.facts["deployed"])
    stage.equal("status", shown.status, "RUNNING")
    stage.equal("capacity", (shown.capacity, shown.ready_capacity), (stage.facts["capacity"],) * 2)


# Steps


def _client(stage):
    return dashscope.Client(api_key=stage.key, base_url=stage.base_url)


def _uploaded(stage, client, kind, **options):
    file = client.files.upload(file_path=stage.facts[kind], **options)
    stage.true(f"the {kind} file has an id", file.file_id)
    return file.file_id


def _hyper(stage):
    return stage.facts["hyper_parameters"]


def _created(stage, client, kind, file_id):
    job = client.fine_tunes.create(
        model=stage.facts["model"][kind],
        training_file_ids=file_id,
        mode=stage.facts["mode"][kind],
        hyper_parameters=_hyper(stage),
    )
    stage.equal("the job is created and waits", job.status, "PENDING")
    return job


def _trained(stage, client, kind, file_id):
    job = client.fine_tunes.wait(_created(stage, client, kind, file_id))
    stage.true("the job succeeded", job.succeeded, job.status)
    stage.contains("its model is named after its base", job.finetuned_model, stage.facts["model"][kind] + "-")
    return job


def _deploy(stage, client, model, **options):
    return client.deployments.create(model=model, **{**stage.facts["deployment"]["client_api"], **options})


def _deployed(stage, client, model, **options):
    deployed = _deploy(stage, client, model, **options).deployed_model
    stage.until("it runs in the end", lambda: client.deployments.get(deployed).status, "RUNNING")
    return deployed


def _ask(stage, client, deployed):
    """At once and as a stream, with the pieces this client always asks for."""
    chat = client.chat.completions
    ask = {"model": deployed, "messages": [{"role": "user", "content": "你是谁?"}]}
    stage.until("a new model is found after a while", lambda: _status(lambda: chat.create(**ask)), 200)
    answer = chat.create(**ask)
    stage.equal("the assistant answers", answer.choices[0].message.role, "assistant")
    stage.contains("and heard the question", answer.output_text, "你是谁?")
    usage = answer.usage
    stage.equal("usage adds up", usage.total_tokens, usage.input_tokens + usage.output_tokens)
    chunks = list(chat.create(**ask, stream=True))
    stage.true("there are several pieces", len(chunks) > 1, len(chunks))
    stage.equal("they join to the whole", "".join(chunk.delta.content for chunk in chunks), answer.output_text)
    stage.equal("the last ends it", chunks[-1].choices[0].finish_reason, "stop")


def _scale(stage, client, deployed):
    wanted = stage.facts["scaled"]
    answer = client.deployments.scale(deployed, capacity=wanted)
    stage.equal("scaling shows the new capacity", answer.capacity, wanted)
    again = client.deployments.scale
    _refused(stage, "scaling while it is scaled", _bad_request("can not be changed"), again, deployed, capacity=wanted)
    stage.until("it runs again", lambda: client.deployments.get(deployed).status, "RUNNING")
    stage.equal("with all of it ready", client.deployments.get(deployed).ready_capacity, wanted)


def _status(call):
    try:
        call()
    except errors.APIStatusError as error:
        return error.status_code
    return 200


def _bad_request(message):
    return errors.BadRequestError, 400, message


def _refused(stage, what, refusal, call, *arguments, **options):
    """The call raises just this class, with this status, a message that holds this text, and a request id."""
    kind, status, message = refusal
    try:
        call(*arguments, **options)
        raised = None
    except Exception as error:
        raised = error
    stage.equal(f"{what}: class", type(raised).__name__, kind.__name__)
    stage.equal(f"{what}: status", getattr(raised, "status_code", None), status)
    stage.contains(f"{what}: message", str(raised), message)
    stage.true(f"{what}: has a request id", getattr(raised, "request_id", None))
