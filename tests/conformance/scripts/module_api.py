"""Scenes for the module API (`dashscope.Files`, `.FineTunes`, ...), which is one for both releases.

Errors are values here: a scene reads `status_code`, `code` and `message` and nothing is raised, except by the
vocabulary service.
"""

import dashscope
from dashscope import Deployments, Files, FineTunes, Generation
from dashscope.audio.asr import AsrPhraseManager, VocabularyService

WORDS = [{"text": "热词", "weight": 4}, {"text": "fine tuning", "weight": 2, "lang": "en"}]


def files(stage):
    """Upload, list page by page, get, delete; then it is gone."""
    _connect(stage)
    first = _uploaded(stage, "sft", description="客服 α")
    second = _uploaded(stage, "dpo")
    newest = Files.list(page=1, page_size=1).output
    stage.equal("the list counts both", newest["total"], 2)
    stage.equal("the newest comes first", [file["file_id"] for file in newest["files"]], [second])
    older = Files.list(page=2, page_size=1).output["files"][0]
    stage.equal("the second page holds the other", older["file_id"], first)
    shown = Files.get(first).output
    stage.equal("the description came through whatever its encoding", shown["description"], "客服 α")
    stage.equal("every byte arrived", shown["md5"], stage.facts["md5"])
    stage.true("the command needs gmt_create", older["gmt_create"])
    stage.equal("delete is 200", Files.delete(first).status_code, 200)
    _refused(stage, "a deleted file", Files.get(first), 400, "InvalidParameter", "File not found.")
    _refused(stage, "deleting it again", Files.delete(first), 400, "InvalidParameter", "File not found.")


def local_checks(stage):
    """The SDK refuses an archive under its own word for the purpose before it sends anything; another word passes."""
    _connect(stage)
    try:
        Files.upload(stage.facts["zip"])
        refused = False
    except Exception:
        refused = True
    stage.true("the archive was refused locally", refused)
    stage.equal("nothing was sent", Files.list().output["total"], 0)
    _uploaded(stage, "zip", purpose="fine-tune")


def a_model_from_upload_to_deletion(stage):
    """Everything a user does with one tuned model, each step from what the step before answered."""
    _connect(stage)
    file_id = _uploaded(stage, "sft")
    job = _trained(stage, "sft", file_id)
    stage.equal("one job is listed", [row.job_id for row in FineTunes.list().output.jobs], [job.job_id])
    stage.true("tokens are told", job.usage > 0, job.usage)
    stage.equal("no validation files is a list", job.validation_file_ids, [])
    deployed = _deployed(stage, job.finetuned_output)
    listed = Deployments.list().output.deployments
    stage.equal("one deployment is listed", [row["deployed_model"] for row in listed], [deployed])
    stage.equal("of the tuned model", listed[0]["model_name"], job.finetuned_output)
    _ask(stage, deployed)
    _scale(stage, deployed)
    stage.equal("delete is DELETING", Deployments.delete(deployed).output.status, "DELETING")
    stage.until("gone in the end", lambda: Deployments.get(deployed).status_code, 404)
    gone = Generation.call(model=deployed, prompt="hello")
    _refused(stage, "a call of what is gone", gone, 404, "ModelNotFound", "Model not exist.")
    stage.equal("the job's record goes", FineTunes.delete(job.job_id).output.status, "success")
    stage.equal("the file goes", Files.delete(file_id).status_code, 200)


def deploying_without_a_plan(stage):
    """1.20 cannot send the plan that 2026 wants: the answer says which parameter, and nothing is made."""
    _connect(stage)
    answer = Deployments.call(model=stage.facts["model"]["sft"], capacity=4, plan="mu", template_id="MU1")
    _refused(stage, "no plan on the wire", answer, 400, "InvalidParameter", "plan")
    stage.equal("nothing was made", Deployments.list().output.total, 0)


def deployment_of_a_base_model(stage):
    """A base model is deployed by its own name, and with a suffix a second time."""
    _connect(stage)
    first = _deployed(stage, stage.facts["model"]["sft"], suffix="one")
    second = _deployed(stage, stage.facts["model"]["sft"], suffix="two")
    stage.true("the suffixes end the ids", first.endswith("-one") and second.endswith("-two"), [first, second])
    page = Deployments.list(page_no=2, page_size=1).output
    stage.equal("the second page holds the older", [row["deployed_model"] for row in page.deployments], [first])
    models = Deployments.get("models", params={"page_no": 1, "page_size": 100})
    stage.equal("deployable models can be asked for", models.status_code, 200)


def preferences(stage):
    """DPO, which only the API can ask for, not the command of 1.20."""
    _connect(stage)
    job = _trained(stage, "dpo", _uploaded(stage, "dpo"))
    stage.equal("the type is shown as asked", job.training_type, stage.facts["mode"]["dpo"])


def pictures(stage):
    """SFT of a model that sees, from an archive."""
    _connect(stage)
    job = _trained(stage, "zip", _uploaded(stage, "zip", purpose="fine-tune"))
    stage.equal("the base model is shown", job.base_model, stage.facts["model"]["zip"])


def plain_text(stage):
    """Continued pre-training came after December 2024."""
    _connect(stage)
    file_id = _uploaded(stage, "cpt")
    if stage.facts["profile"] == "2026":
        _trained(stage, "cpt", file_id)
    else:
        model = stage.facts["model"]["sft"]
        answer = FineTunes.call(model=model, training_file_ids=file_id, mode="cpt")
        _refused(stage, "cpt in 2024", answer, 400, "InvalidParameter", "training_type")


def data_that_cannot_be_trained_on(stage):
    """Preferences given to a chat run: the create succeeds and the job ends FAILED, with its reason."""
    _connect(stage)
    job = _created(stage, "sft", _uploaded(stage, "cpt"))
    ended = FineTunes.wait(job.job_id).output
    stage.equal("it failed", ended.status, "FAILED")
    stage.equal("with a code", ended.code, "InvalidParameter")
    stage.contains("with a reason", ended.message, "has no messages")


def logs(stage):
    """The SDK's default skips the first line, as `offset` is a number of lines; pages join to the whole."""
    _connect(stage)
    job = _trained(stage, "sft", _uploaded(stage, "sft"))
    whole = FineTunes.logs(job.job_id, offset=0).output
    stage.equal("total counts the lines", whole["total"], len(whole["logs"]))
    stage.equal("the default begins at the second", FineTunes.logs(job.job_id).output["logs"], whole["logs"][1:])
    pages = [FineTunes.logs(job.job_id, offset=start, line=3).output["logs"] for start in range(0, whole["total"], 3)]
    stage.equal("pages join to the whole", [line for page in pages for line in page], whole["logs"])
    stage.contains("the last line says so", whole["logs"][-1], "##FT_COMPLETE##")
    stage.true("tokens are in it", any(f"consumed tokens is {job.usage}!" in line for line in whole["logs"]))
    beyond = FineTunes.logs(job.job_id, offset=10_000).output
    stage.equal("beyond the end is empty", beyond["logs"], [])


def events(stage):
    """The stream stays open until the job is over, and holds what the log holds."""
    _connect(stage)
    job = _created(stage, "sft", _uploaded(stage, "sft"))
    told = list(FineTunes.stream_events(job.job_id))
    stage.true("every event is 200", all(event.status_code == 200 for event in told))
    stage.equal("the job is over", FineTunes.get(job.job_id).output.status, "SUCCEEDED")
    lines = [event.output for event in told]
    stage.equal("events are the log", lines, FineTunes.logs(job.job_id, offset=0).output["logs"])


def cancel_and_delete(stage):
    """A job is canceled, refuses to go while it is unfinished, and is gone after it was deleted."""
    _connect(stage)
    job = _created(stage, "sft", _uploaded(stage, "sft"))
    _refused(stage, "deleting it unfinished", FineTunes.delete(job.job_id), 400, "UnsupportedOperation", "not be del")
    stage.equal("cancel is accepted", FineTunes.cancel(job.job_id).output.status, "success")
    stage.equal("it is on its way", FineTunes.get(job.job_id).output.status, "CANCELING")
    ended = FineTunes.wait(job.job_id).output
    stage.equal("canceled, with one L", ended.status, "CANCELED")
    again = FineTunes.cancel(job.job_id)
    _refused(stage, "canceling it again", again, 400, "UnsupportedOperation", "can not be canceled")
    stage.equal("delete", FineTunes.delete(job.job_id).output.status, "success")
    _refused(stage, "what is deleted", FineTunes.get(job.job_id), 404, "NotFound", "Not found!")


def vocabularies(stage):
    """All five verbs, and the exception the service object makes of a refusal."""
    _connect(stage)
    service = VocabularyService()
    stage.equal("none is a list too", service.list_vocabularies(), [])
    made = service.create_vocabulary(target_model="paraformer-v2", prefix="hot", vocabulary=WORDS)
    stage.contains("the prefix is in the id", made, "vocab-hot-")
    stage.equal("the words come back", service.query_vocabulary(made)["vocabulary"], WORDS)
    service.update_vocabulary(made, [{"text": "新词", "weight": 5}])
    stage.equal("they were replaced", service.query_vocabulary(made)["vocabulary"], [{"text": "新词", "weight": 5}])
    service.create_vocabulary(target_model="paraformer-v2", prefix="other", vocabulary=WORDS)
    stage.equal("the list filters", [row["vocabulary_id"] for row in service.list_vocabularies(prefix="hot")], [made])
    stage.equal("and pages", len(service.list_vocabularies(page_index=1, page_size=1)), 1)
    service.delete_vocabulary(made)
    gone = (400, "BadRequest.ResourceNotExist", "The Required resource not exist.")
    _raises(stage, "what is gone", gone, service.query_vocabulary, made)
    _raises(stage, "updating it", gone, service.update_vocabulary, made, WORDS)
    _raises(stage, "deleting it", gone, service.delete_vocabulary, made)
    heavy = [{"text": "热词", "weight": 6}]
    for what, message, arguments in (
        ("a weight of 6", "weight", ("paraformer-v2", "hot", heavy)),
        ("a long prefix", "prefix", ("paraformer-v2", "elevenchars", WORDS)),
        ("a v1 model", "Model not exist.", ("paraformer-v1", "hot", WORDS)),
    ):
        _raises(stage, what, (400, "InvalidParameter", message), service.create_vocabulary, *arguments)


def too_many_vocabularies(stage):
    _connect(stage)
    service = VocabularyService()
    for number in range(10):
        service.create_vocabulary("paraformer-v2", f"n{number}", WORDS)
    full = (400, "Throttling.AllocationQuota", "Free allocated quota exceeded.")
    _raises(stage, "the eleventh", full, service.create_vocabulary, "paraformer-v2", "more", WORDS)


def phrases(stage):
    """They ride the job API: create, update under the same id, query, list, delete."""
    _connect(stage)
    made = AsrPhraseManager.create_phrases(model="paraformer-v1", phrases={"热词": 4, "fine tuning": -2})
    stage.equal("create is final at once", made.output.status, "SUCCEEDED")
    phrase_id = made.output.finetuned_output
    changed = AsrPhraseManager.update_phrases(model="paraformer-v1", phrase_id=phrase_id, phrases={"新词": 5})
    stage.equal("the id stays", changed.output.finetuned_output, phrase_id)
    stage.true("the job is another", changed.output.job_id != made.output.job_id)
    shown = AsrPhraseManager.query_phrases(phrase_id).output
    stage.equal("query names the list", shown.finetuned_output, phrase_id)
    stage.equal("and the last write", shown.job_id, changed.output.job_id)
    listed = AsrPhraseManager.list_phrases().output
    stage.equal("the list names it", [row["finetuned_output"] for row in listed.finetuned_outputs], [phrase_id])
    stage.equal("and is no list of jobs", FineTunes.list().output.jobs, [])
    stage.equal("delete", AsrPhraseManager.delete_phrases(phrase_id).status_code, 200)
    _refused(stage, "what is gone", AsrPhraseManager.query_phrases(phrase_id), 404, "NotFound", "Not found!")
    _refused(stage, "deleting it", AsrPhraseManager.delete_phrases(phrase_id), 404, "NotFound", "Not found!")
    weight = AsrPhraseManager.create_phrases(model="paraformer-v1", phrases={"热词": 0})
    _refused(stage, "a weight of 0", weight, 400, "InvalidParameter", "weight")


def keys(stage):
    """Every operation wants the right key. An empty one is read as the SDK is loaded: see the command."""
    _connect(stage)
    for what, key in (("a wrong key", "sk-other"), ("a key of the real form", "sk-" + "0" * 32)):
        for call in (Files, FineTunes, Deployments):
            answer = call.list(api_key=key)
            _refused(stage, f"{call.__name__}.list with {what}", answer, 401, "InvalidApiKey", "")
        answer = Generation.call(model="any", prompt="hello", api_key=key)
        _refused(stage, f"a call with {what}", answer, 401, "InvalidApiKey", "")
    service = VocabularyService(api_key="sk-other")
    refused = (401, "InvalidApiKey", "Invalid API-key provided.")
    _raises(stage, "a vocabulary with a wrong key", refused, service.list_vocabularies)


def unknown_ids(stage):
    """404 for jobs and deployments, 400 for files: never an empty success."""
    _connect(stage)
    for verb in (FineTunes.get, FineTunes.cancel, FineTunes.delete, FineTunes.logs):
        _refused(stage, f"{verb.__name__} of no job", verb("ft-nobody"), 404, "NotFound", "Not found!")
    stream = list(FineTunes.stream_events("ft-nobody"))
    stage.equal("one answer instead of events", [event.status_code for event in stream], [404])
    for verb in (Deployments.get, Deployments.delete, lambda name: Deployments.scale(name, 2)):
        _refused(stage, "no deployment", verb("nobody"), 404, "NotFound", "Model: nobody not found!")
    answer = Deployments.call(**_deploy_arguments(stage, "nobody"))
    _refused(stage, "deploying no model", answer, 404, "NotFound", "Model: nobody not found!")
    _refused(stage, "no file", Files.get("nobody"), 400, "InvalidParameter", "File not found.")
    answer = _create(stage, "sft", "nobody")
    _refused(stage, "a job on no file", answer, 400, "InvalidParameter", "nobody")


def streams_of_nothing(stage):
    """A stream of an unknown model is one refusal."""
    _connect(stage)
    told = list(Generation.call(model="nobody", prompt="hello", stream=True))
    stage.equal("one answer", len(told), 1)
    _refused(stage, "it", told[0], 404, "ModelNotFound", "Model not exist.")


def conflicts(stage):
    """A suffix keeps a repeated create from making a second deployment; without one a tuned model is taken."""
    _connect(stage)
    first = _deployed(stage, stage.facts["model"]["sft"], suffix="same")
    again = Deployments.call(**_deploy_arguments(stage, stage.facts["model"]["sft"], suffix="same"))
    _refused(stage, "the same suffix", again, 409, "Conflict", f"Deployed model {first} already exists")
    stage.equal("one was made", Deployments.list().output.total, 1)


def bad_parameters(stage):
    """What is refused at once, with the parameter named."""
    _connect(stage)
    file_id = _uploaded(stage, "sft")
    model = stage.facts["model"]["sft"]
    for what, arguments, message in (
        ("no files", {"training_file_ids": []}, "Missing training files"),
        ("an unknown model", {"model": "gpt"}, "Model not exist."),
        ("an unknown type", {"mode": "rlhf"}, "training_type"),
        ("epochs in words", {"hyper_parameters": {**_hyper(stage), "n_epochs": "many"}}, "n_epochs"),
    ):
        good = {"model": model, "training_file_ids": file_id, "hyper_parameters": _hyper(stage)}
        _refused(stage, what, FineTunes.call(**{**good, **arguments}), 400, "InvalidParameter", message)
    stage.equal("no job was made", FineTunes.list().output.total, 0)


def bad_deployments(stage):
    _connect(stage)
    for what, arguments, message in (
        ("a negative capacity", {"capacity": -1}, "Invalid capacity (-1)"),
        ("a capacity of a thousand", {"capacity": 1000}, "multiples of"),
        ("a suffix of nine", {"suffix": "ninechars"}, "suffix"),
    ):
        answer = Deployments.call(**_deploy_arguments(stage, stage.facts["model"]["sft"], **arguments))
        _refused(stage, what, answer, 400, "InvalidParameter", message)
    stage.equal("no deployment was made", Deployments.list().output.total, 0)


def too_many_jobs(stage):
    """The account of this emulator has room for one."""
    _connect(stage)
    file_id = _uploaded(stage, "sft")
    _created(stage, "sft", file_id)
    answer = _create(stage, "sft", file_id)
    _refused(stage, "the second", answer, 429, "Throttling", "Only 1 fine-tune job in running or succeeded")


def too_many_files(stage):
    """The account is full: HTTP 200 all the same, with the file under `failed_uploads`."""
    _connect(stage)
    answer = Files.upload(stage.facts["sft"])
    stage.equal("it is a success", answer.status_code, 200)
    stage.equal("with nothing uploaded", answer.output["uploaded_files"], [])
    stage.equal("and a reason", answer.output["failed_uploads"][0]["code"], "BadRequest.TooMany")


def workspaces(stage):
    """A workspace is a header more."""
    _connect(stage)
    stage.equal("files", Files.list(workspace="llm-other").status_code, 200)
    stage.equal("jobs", FineTunes.list(workspace="llm-other").status_code, 200)


def a_lost_create(stage):
    """The connection ends after the commit: an exception, and no second request."""
    _connect(stage)
    file_id = _uploaded(stage, "sft")
    try:
        _create(stage, "sft", file_id)
        raised = False
    except Exception:
        raised = True
    stage.true("it raised", raised)


def a_failed_create(stage):
    """A 500 after the commit is a value like any other."""
    _connect(stage)
    answer = _create(stage, "sft", _uploaded(stage, "sft"))
    _refused(stage, "the create", answer, 500, "InternalError", "")


def throttled_once(stage):
    """A rate quota is a value; the next request passes."""
    _connect(stage)
    _refused(stage, "the first", Files.list(), 429, "Throttling.RateQuota", "rate limit")
    stage.equal("the second", Files.list().status_code, 200)


def a_strayed_path(stage):
    """After a lost connection this SDK keeps the path of phrases for jobs, and gets no success there."""
    _connect(stage)
    job = _created(stage, "sft", _uploaded(stage, "sft"))
    made = AsrPhraseManager.create_phrases(model="paraformer-v1", phrases={"热词": 4}).output.finetuned_output
    usual = FineTunes.SUB_PATH
    try:
        AsrPhraseManager.query_phrases(made)
        lost = False
    except Exception:
        lost = True
    try:
        stage.true("the connection was lost", lost)
        _refused(stage, "a job asked for there", FineTunes.get(job.job_id), 404, "NotFound", "Not found!")
        _refused(stage, "a job made there", _create(stage, "sft", "any"), 404, "NotFound", "Not found!")
    finally:
        FineTunes.SUB_PATH = usual
    stage.equal("back on the path it is there", FineTunes.get(job.job_id).output.job_id, job.job_id)


def a_lost_vocabulary(stage):
    """What comes of it is the ledger's to say: this service object has a loop of its own."""
    _connect(stage)
    try:
        VocabularyService().create_vocabulary("paraformer-v2", "hot", WORDS)
        raised = False
    except Exception:
        raised = True
    stage.true("it raised in the end", raised)


def deployed_by_hand(stage):
    """Somebody deploys without asking the tool."""
    _connect(stage)
    _deployed(stage, stage.facts["model"]["sft"], suffix="byhand")


def an_account_by_hand(stage):
    """What a team has made before it heard of the tool: data, runs, a run of a run, capacity, words; one run failed."""
    _connect(stage)
    files = {kind: _uploaded(stage, kind) for kind in ("sft", "dpo")}
    first = _trained(stage, "sft", files["sft"])
    _trained(stage, "dpo", files["dpo"])
    wrong = _created(stage, "dpo", files["sft"]).job_id
    stage.until("data of the wrong kind fails", lambda: FineTunes.get(wrong).output.status, "FAILED")
    _deployed(stage, first.finetuned_output, suffix="byhand")
    Deployments.call(**_deploy_arguments(stage, stage.facts["model"]["sft"], suffix="two"))
    options = {"mode": stage.facts["mode"]["sft"], "hyper_parameters": _hyper(stage)}
    again = FineTunes.call(
        model=first.finetuned_output, training_file_ids=files["sft"], validation_file_ids=files["sft"], **options
    )
    stage.equal("a run of its model waits", again.output.status, "PENDING")
    for prefix, words in (("meds", WORDS), ("names", WORDS[:1])):
        VocabularyService().create_vocabulary("paraformer-v2", prefix, words)


def used_by_hand(stage):
    """Somebody calls and scales what the tool has made."""
    _connect(stage)
    deployed = stage.facts["deployed"]
    stage.equal("it is there", Deployments.get(deployed).output.status, "RUNNING")
    stage.contains("and listed", [row["deployed_model"] for row in Deployments.list().output.deployments], deployed)
    _ask(stage, deployed)
    _scale(stage, deployed)


def seen_by_hand(stage):
    """What somebody sees of it who did not make it."""
    _connect(stage)
    shown = Deployments.get(stage.facts["deployed"]).output
    stage.equal("status", shown.status, "RUNNING")
    stage.equal("capacity", (shown.capacity, shown.ready_capacity), (stage.facts["capacity"],) * 2)


# Steps


def _connect(stage):
    dashscope.api_key, dashscope.base_http_api_url = stage.key, stage.base_url


def _uploaded(stage, kind, **options):
    answer = Files.upload(stage.facts[kind], **options)
    stage.equal(f"the {kind} file is uploaded", answer.status_code, 200)
    stage.equal("and none failed", answer.output["failed_uploads"], [])
    return answer.output["uploaded_files"][0]["file_id"]


def _hyper(stage):
    return stage.facts["hyper_parameters"]


def _create(stage, kind, file_id):
    return FineTunes.call(
        model=stage.facts["model"][kind],
        training_file_ids=file_id,
        mode=stage.facts["mode"][kind],
        hyper_parameters=_hyper(stage),
    )


def _created(stage, kind, file_id):
    answer = _create(stage, kind, file_id)
    stage.equal("the job is created", (answer.status_code, answer.message), (200, ""))
    stage.equal("and waits", answer.output.status, "PENDING")
    return answer.output


def _trained(stage, kind, file_id):
    job = FineTunes.wait(_created(stage, kind, file_id).job_id).output
    stage.equal("the job succeeded", job.status, "SUCCEEDED")
    stage.contains("its model is named after its base", job.finetuned_output, stage.facts["model"][kind] + "-")
    return job


def _deploy_arguments(stage, model, **options):
    return {"model": model, **stage.facts["deployment"]["module_api"], **options}


def _deployed(stage, model, **options):
    answer = Deployments.call(**_deploy_arguments(stage, model, **options))
    stage.equal("the deployment is created", (answer.status_code, answer.message), (200, ""))
    deployed = answer.output.deployed_model
    stage.until("it runs in the end", lambda: Deployments.get(deployed).output.status, "RUNNING")
    return deployed


def _ask(stage, deployed):
    """Both forms of question, both of answer, at once and as a stream: the same words each time."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "你是谁?"}]
    ask = {"model": deployed, "messages": messages, "result_format": "message"}
    stage.until("a new model is found after a while", lambda: Generation.call(**ask).status_code, 200)
    message = Generation.call(**ask).output.choices[0].message
    stage.equal("the assistant answers", message.role, "assistant")
    stage.contains("and heard the question", message.content, "你是谁?")
    answer = Generation.call(model=deployed, prompt="你是谁?")
    stage.equal("a prompt gets a text", answer.output.text, message.content)
    stage.true("usage adds up", answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens)
    frames = list(Generation.call(**ask, stream=True))
    stage.true("every frame is 200", all(frame.status_code == 200 for frame in frames))
    stage.true("there are several", len(frames) > 1, len(frames))
    stage.equal("the last one is whole", frames[-1].output.choices[0].message.content, message.content)
    stage.equal("and ends it", frames[-1].output.choices[0].finish_reason, "stop")
    pieces = [f.output.choices[0].message.content for f in Generation.call(**ask, stream=True, incremental_output=True)]
    stage.equal("pieces join to the whole", "".join(pieces), message.content)
    texts = [frame.output.text for frame in Generation.call(model=deployed, prompt="你是谁?", stream=True)]
    stage.equal("a streamed prompt ends in the whole text", texts[-1], message.content)


def _scale(stage, deployed):
    wanted = stage.facts["scaled"]
    answer = Deployments.scale(deployed, wanted)
    stage.equal("scaling shows the new capacity", answer.output.capacity, wanted)
    stage.true("and the model, for the command", answer.output.model_name)
    busy = Deployments.scale(deployed, wanted)
    _refused(stage, "scaling while it is scaled", busy, 400, "UnsupportedOperation", "can not be changed")
    stage.until("it runs again", lambda: Deployments.get(deployed).output.status, "RUNNING")
    stage.equal("with all of it ready", Deployments.get(deployed).output.ready_capacity, wanted)


def _refused(stage, what, answer, status, code, message):
    stage.equal(f"{what}: status and code", (answer.status_code, answer.code), (status, code))
    stage.contains(f"{what}: message", answer.message, message)
    stage.true(f"{what}: has a request id", answer.request_id)


def _raises(stage, what, refusal, call, *arguments):
    """The vocabulary service raises its own exception, with everything in the text."""
    status, code, message = refusal
    try:
        call(*arguments)
        text = "no error"
    except Exception as error:
        text = str(error)
    stage.contains(what, text, f"Status Code: {status}, Code: {code}, Error Message: ")
    stage.contains(what, text, message)
