"""A faulty policy file is refused, and every fault is told on the line where it stands."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.errors import PolicyError
from clipmod_cli.judge.policy.reading import BUILTIN, builtin_text, parse_policy
from clipmod_cli.judge.policy.values import policy_notes

TAIL = """
[[categories]]
name = "good"
safety = "SAFE"
otherwise = true
prompts = ["good"]

[[categories]]
name = "bad"
safety = "UNSAFE"
prompts = ["bad"]
labels = { nudenet = ["ANUS_EXPOSED"], "hf:a/b" = ["porn"] }
"""
HEAD = 'name = "mine"\n'
INDEPENDENT = HEAD + "scoring = 'independent'\n"

# Each line that holds a fault ends in `#!`; after the text, words of each fault in order.
FAULTS: list[tuple[str, list[str]]] = [
    # TOML itself
    (HEAD + "a = #!\n" + TAIL, ["not valid TOML"]),
    (HEAD + "name = 'again' #!\n" + TAIL, ["not valid TOML"]),
    (HEAD + "[thresholds]\n[thresholds] #!\n" + TAIL, ["not valid TOML"]),
    (HEAD + TAIL + 'description = """#!', ["not valid TOML: unterminated string"]),
    # unknown keys
    (HEAD + "extra = 1 #!\n" + TAIL, ['unknown key "extra"']),
    (HEAD + "tresholds = {} #!\n" + TAIL, ['unknown key "tresholds" (did you mean "thresholds"?)']),
    (
        HEAD + "[thresholds]\nlow = 0.8\nmedum = 0.5 #!\n" + TAIL,
        ['"medum" in [thresholds] (did you mean "medium"?)'],
    ),
    (HEAD + "[video]\npersistence = 1 #!\n" + TAIL, ['in [video] (did you mean "persistence_s"?)']),
    (HEAD + TAIL + 'promts = ["x"] #!', ['unknown key "promts" in [[categories]] (did you mean "prompts"?)']),
    (HEAD + '"a\\nb\\u001b" = 1 #!' + TAIL, ['unknown key "a\\nb\\u001b"']),
    # thresholds of single categories
    (HEAD + TAIL + "threshold = 2 #!", ['"threshold" in [[categories]] must be a number from 0 to 1, not 2']),
    (HEAD + TAIL + "threshold = 0.3\nreview_margin = true #!", ['"review_margin" in [[categories]] must be']),
    (HEAD + TAIL + "review_margin = 0.1 #!", ['for a category with a "threshold" of its own']),
    (
        HEAD + TAIL.replace("otherwise = true", "threshold = 0.3 #!\nreview_margin = 0.1 #!"),
        ['"threshold" is for an UNSAFE category', '"review_margin" is for an UNSAFE category'],
    ),
    # OpenAI's categories
    (
        HEAD + TAIL + "openai = ['sexul'] #!",
        ['OpenAI has no category "sexul" (did you mean "sexual"?); it has'],
    ),
    (HEAD + TAIL + "openai = 'sexual' #!", ['"openai" in [[categories]] must be a list of texts']),
    (HEAD + TAIL.replace("otherwise = true", "openai = ['hate'] #!"), ['"openai" is for an UNSAFE category']),
    # tests
    (
        HEAD + TAIL + "[[tests]] #!\npicture = 'x'",
        ['a test says what its picture must be, by one of "category"'],
    ),
    (HEAD + TAIL + "[[tests]] #!\ndecision = 'Safe'", ['missing "picture" in [[tests]]']),
    (HEAD + "tests = 1 #!" + TAIL, ['"tests" must be a list of tables ([[tests]]), not 1']),
    (HEAD + "tests = [1] #!" + TAIL, ['each of "tests" must be a table, not 1']),
    (
        HEAD + TAIL + "[[tests]]\npicture = 'x'\ndecison = 'Safe' #!\ncategory = 'good'",
        ['unknown key "decison" in [[tests]] (did you mean "decision"?)'],
    ),
    (
        HEAD + TAIL + "[[tests]]\npicture = 'x'\ndecision = 'safe' #!",
        ['"decision" in [[tests]] must be "NSFW", "review", "Safe" or a list of them, not "safe"'],
    ),
    (HEAD + TAIL + "[[tests]]\npicture = 'x'\ndecision = ['NSFW', {}] #!", ["or a list of them, not a list"]),
    (HEAD + TAIL + "[[tests]]\npicture = 'x'\ndecision = [] #!", ["or a list of them, not an empty list"]),
    (
        HEAD + TAIL + "[[tests]]\npicture = 'x'\ncategory = 'god' #!",
        ['no category is named "god" (did you mean "good"?)'],
    ),
    (
        HEAD + TAIL + "[[tests]]\npicture = 'x'\nmatched = ['bad'] #!",
        ['no UNSAFE category with a "threshold" of its own is named "bad"'],
    ),
    (HEAD + TAIL + "[[tests]]\npicture = 'x'\nmatched = 'bad' #!", ["must be a list of texts"]),
    (
        HEAD + TAIL + "[[tests]]\npicture = 'x'\nscore_at_most = 2 #!",
        ["must be a number from 0 to 1, not 2"],
    ),
    (
        HEAD + TAIL + "[[tests]]\npicture = 'x'\nscore_at_least = 0.6 #!\nscore_at_most = 0.5",
        ['"score_at_least" is over "score_at_most": 0.6 and 0.5'],
    ),
    (
        HEAD
        + TAIL.replace("UNSAFE", "SAFE").replace("nudenet", '"hf:c/d"')
        + "[[tests]]\npicture = 'x'\ndecision = 'Safe' #!\nmatched = ['bad'] #!\ncategory = 'good'",
        ['"decision" can be tested only where a category is UNSAFE', '"matched" can be tested only'],
    ),
    # independent scoring, and look-alikes
    ("scoring = 'sum' #!\n" + HEAD + TAIL, ['"scoring" must be "softmax" or "independent", not "sum"']),
    (
        "scoring = 'independent' #!\n" + HEAD + TAIL.replace('"UNSAFE"', '"SAFE"'),
        ["independent scoring compares UNSAFE categories with SAFE ones, and none is UNSAFE"],
    ),
    (HEAD + TAIL + "negatives = ['x'] #!", ['"negatives" needs scoring = "independent"']),
    (INDEPENDENT + TAIL + "negatives = [] #!", ['"negatives" in [[categories]] must be a list of texts']),
    (
        INDEPENDENT + TAIL.replace("otherwise = true", "negatives = ['x'] #!"),
        ['"negatives" is for an UNSAFE category: put these texts into the "prompts" of a SAFE one'],
    ),
    (
        INDEPENDENT + TAIL.replace('prompts = ["bad"]', "negatives = ['x'] #!"),
        ['"negatives" is for a category with "prompts"'],
    ),
    (
        INDEPENDENT + TAIL + "negatives = [\n'Bad', #!\n'good', #!\n'x',\n'X', #!\n]",
        [
            'the negative "Bad" is already at line 13',
            'the negative "good" is already at line 8',
            'the negative "X" is already at line',
        ],
    ),
    # labels that are known and not judged
    (
        HEAD + '[not_judged]\nnudenet = ["ANUS_COVERED"] #!\n"hf:a/b" = ["gore", "gore"] #!\n' + TAIL,
        ['"not_judged" is for classifiers', 'the label "gore" of hf:a/b is already at line 4'],
    ),
    (HEAD + '[not_judged]\n"hf:a/b" = ["porn"] #!' + TAIL, ['the label "porn" of hf:a/b is already at line']),
    (HEAD + '[not_judged]\n"a/b" = ["x"] #!' + TAIL, ['(did you mean "hf:a/b"?)']),
    (HEAD + '[not_judged]\n"hf:a/b" = "x" #!' + TAIL, ['"hf:a/b" in [not_judged] must be a list of texts']),
    (HEAD + '[not_judged]\n"hf:a/b" = [1] #!' + TAIL, ['each of "hf:a/b" in [not_judged] must be text']),
    (HEAD + "not_judged = 1 #!" + TAIL, ['"not_judged" must be a table of lists by model, not 1']),
    # missing
    ("#!" + TAIL, ['missing "name"']),
    ('name = "x" #!', ['missing "categories"']),
    (
        HEAD + TAIL + '[[categories]] #!\nsafety = "SAFE"\nprompts = ["x"]',
        ['missing "name" in [[categories]]'],
    ),
    (HEAD + TAIL + '[[categories]] #!\nname = "x"\nprompts = ["x"]', ['missing "safety" in [[categories]]']),
    # wrong types and values
    ("name = 1 #!" + TAIL, ['"name" must be text, not 1']),
    ('name = "" #!' + TAIL, ['"name" must be text, not an empty string']),
    ('name = " x" #!' + TAIL, ["spaces around it"]),
    ('name = "a\\u001b[2J" #!' + TAIL, ['"a\\u001b[2J" has spaces around it or control characters']),
    (HEAD + "description = [] #!" + TAIL, ['"description" must be text, not an empty list']),
    (HEAD + "description = 2020-01-01 #!" + TAIL, ["not a date or a time"]),
    (HEAD + 'categories = "x" #!', ['must be a list of tables ([[categories]]), not "x"']),
    (HEAD + "categories = [\n1, #!\n2 #!\n]", ["must be a table, not 1", "must be a table, not 2"]),
    (HEAD + "thresholds = 0.5 #!" + TAIL, ['"thresholds" must be a table, not 0.5']),
    (HEAD + TAIL.replace('"UNSAFE"', '"unsafe" #!'), ['must be "SAFE" or "UNSAFE", not "unsafe"']),
    (HEAD + TAIL.replace('"UNSAFE"', "true #!"), ['must be "SAFE" or "UNSAFE", not true']),
    (HEAD + TAIL.replace("otherwise = true", "otherwise = 1 #!"), ["must be true or false, not 1"]),
    (HEAD + TAIL.replace('["bad"]', '"bad" #!'), ['"prompts" in [[categories]] must be a list of texts']),
    (HEAD + TAIL.replace('["bad"]', "[] #!"), ["must be a list of texts, not an empty list"]),
    (
        HEAD + TAIL.replace('["bad"]', '["a",\n" ", #!\n7 #!\n]'),
        ["not an empty string", "must be text, not 7"],
    ),
    (HEAD + TAIL + "label = {} #!", ['"label" in [[categories]] must be text, not an empty table']),
    # numbers
    (HEAD + "agreement_threshold = nan #!" + TAIL, ["a number from 0 to 1, not nan"]),
    (HEAD + "agreement_threshold = 1.5 #!" + TAIL, ["a number from 0 to 1, not 1.5"]),
    (HEAD + "agreement_threshold = true #!" + TAIL, ["a number from 0 to 1, not true"]),
    (HEAD + f"agreement_threshold = 1{'0' * 400} #!" + TAIL, ["a number from 0 to 1, not a huge number"]),
    (HEAD + "[thresholds]\nultra = -inf #!" + TAIL, ['"ultra" in [thresholds] must be a number from 0 to 1']),
    (HEAD + '[thresholds]\nlow = "0.7" #!' + TAIL, ['a number from 0 to 1, not "0.7"']),
    (HEAD + "[thresholds]\nlow = 0.6\nmedium = 0.65 #!" + TAIL, ["low = 0.6 is under medium = 0.65"]),
    (HEAD + "[thresholds]\nlow = 0.4 #!" + TAIL, ['low = 0.4 is under medium = 0.5 ("medium" by default)']),
    (HEAD + "[thresholds]\nultra = 0.4 #!" + TAIL, ["high = 0.35 is under ultra = 0.4"]),
    (HEAD + "review_margin = nan #!" + TAIL, ["a number from 0 to 1, not nan"]),
    (HEAD + "min_coverage = 2 #!" + TAIL, ["a number from 0 to 1, not 2"]),
    (HEAD + "review_band = [0.4, 0.6] #!" + TAIL, ["review_band"]),
    (
        HEAD + "[video]\npersistence_s = -1 #!\nmax_gap_s = 0 #!" + TAIL,
        ["from 0 to 86400, not -1", "from 0.01"],
    ),
    # templates
    (HEAD + 'templates = ["a"] #!' + TAIL, ["exactly one {}"]),
    (HEAD + 'templates = ["{}",\n"{} and {}", #!\n"{}"] #!' + TAIL, ["exactly one {}", "already at line 2"]),
    (HEAD + "templates = [] #!" + TAIL, ["must be a list of texts"]),
    # categories together
    (HEAD + TAIL.partition("\n\n")[0].replace("[[categories]]", "[[categories]] #!"), ["at least two"]),
    (HEAD + "categories = [] #!", ["at least two [[categories]], not 0"]),
    (HEAD + TAIL.replace('"bad"\nsafety', '"good" #!\nsafety'), ['named "good" is already at line 4']),
    (
        HEAD + TAIL + '[[categories]] #!\nname = "x"\nsafety = "SAFE"',
        ['needs "prompts", "labels", "head" or "otherwise"'],
    ),
    (
        HEAD + TAIL + '[[categories]] #!\nname = "x"\nsafety = "SAFE"\notherwise = false',
        ["or no model can find it"],
    ),
    (
        HEAD + TAIL.replace("otherwise = true", "") + "otherwise = true #!",
        ['"otherwise" is for a SAFE category'],
    ),
    (
        HEAD + TAIL + '[[categories]]\nname = "x"\nsafety = "SAFE"\notherwise = true #!',
        ['only one category can be "otherwise", and line 6 has it'],
    ),
    (HEAD + TAIL.replace('["bad"]', '["bad",\n"Bad"] #!'), ['the prompt "Bad" is already at line 12']),
    (HEAD + TAIL.replace('["bad"]', '[" GOOD"] #!'), ['the prompt " GOOD" is already at line 7']),
    # label maps
    (HEAD + TAIL + "labels.x = 1 #!", ["not valid TOML"]),
    (
        HEAD + TAIL.replace("{ nudenet", "3 #!\n#"),
        ['"labels" in [[categories]] must be a table of lists by model'],
    ),
    (
        HEAD + TAIL + '[[categories]]\nname = "x"\nsafety = "SAFE"\nlabels = {} #!',
        ["by model, not an empty table"],
    ),
    (HEAD + TAIL.replace('["porn"]', "[] } #!\n#"), ["must be a list of texts, not an empty list"]),
    (
        HEAD + TAIL.replace('"hf:a/b" = ["porn"] }', '"hf:a/b" = "porn" } #!'),
        ['a list of texts, not "porn"'],
    ),
    (
        HEAD + TAIL.replace("nudenet =", '"nudenet=0.4" =').rstrip() + " #!",
        ['without its weight: "nudenet", not "nudenet=0.4"'],
    ),
    (HEAD + TAIL.replace("hf:a/b", "hf:a/b=1e-1").rstrip() + " #!", ['without its weight: "hf:a/b"']),
    (
        HEAD + TAIL.replace("hf:a/b", "a/b").rstrip() + " #!",
        ['"a/b" is not a model with labels: use nudenet, open_nsfw, owen-s, hf:OWNER/NAME, hf:PATH or onnx'],
    ),
    (HEAD + TAIL.replace("nudenet", "nude_net").rstrip() + " #!", ['did you mean "nudenet"?']),
    (
        HEAD + TAIL.replace("hf:a/b", "open_clip:ViT-L-14/x").rstrip() + " #!",
        ['models use "prompts"'],
    ),
    (HEAD + TAIL.replace("ANUS_EXPOSED", "ANUS_EXPOSD").rstrip() + " #!", ['did you mean "ANUS_EXPOSED"?']),
    (
        HEAD
        + TAIL
        + '[[categories]]\nname = "x"\nsafety = "SAFE"\n[categories.labels]\n"hf:a/b" = [\n"porn" #!\n]',
        ['the label "porn" of hf:a/b is already at line 13'],
    ),
    (  # a label twice in one category, and a detector's in two
        HEAD + TAIL + '[[categories]]\nname = "x"\nsafety = "UNSAFE"\n[categories.labels]\n'
        '"hf:a/b" = [\n"porn",\n"porn" #!\n]\nnudenet = ["ANUS_EXPOSED"] #!',
        ["is already at line", "is already at line 13"],
    ),
    (
        HEAD + TAIL.replace('["ANUS_EXPOSED"]', '["ANUS_EXPOSED", "ANUS_EXPOSED"]').rstrip() + " #!",
        ["is already at line 13"],
    ),
]


def faults_of(text: str) -> list[tuple[int, str]]:
    """Return the line and message of each fault."""
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, "my.toml")
    found = []
    for message in str(caught.value).splitlines():
        place, _, rest = message.partition(": ")
        name, line = place.split(":")
        assert name == "my.toml"
        found.append((int(line), rest))
    return found


def test_the_policy_without_a_fault_is_accepted() -> None:
    assert parse_policy(HEAD + TAIL, "my.toml").unsafe == ("bad",)


@pytest.mark.parametrize(("text", "words"), FAULTS)
def test_a_fault_is_told_on_its_line(text: str, words: list[str]) -> None:
    marked = [number for number, line in enumerate(text.splitlines(), 1) if "#!" in line]
    found = faults_of(text)
    assert [line for line, _ in found] == marked
    assert [word for word, (_, message) in zip(words, found, strict=True) if word not in message] == []


def test_all_faults_are_told_at_once_in_their_order() -> None:
    text = 'name = 1\nextra = 2\n[thresholds]\nlow = 0.1\n[[categories]]\nsafety = "x"\n'
    assert [line for line, _ in faults_of(text)] == [1, 2, 4, 5, 5, 5, 6]


def test_lists_nested_without_end_are_refused() -> None:
    (fault,) = faults_of("a = " + "[" * 20_000)
    assert "nested too deeply" in fault[1]


def test_numbers_without_end_are_refused() -> None:
    (fault,) = faults_of("a = " + "9" * 20_000)
    assert fault[0] == 1


@given(st.sampled_from(BUILTIN), st.randoms(use_true_random=False))
def test_a_damaged_policy_is_read_or_refused_but_never_breaks(name: str, random: Random) -> None:
    lines = builtin_text(name).splitlines()
    junk = "labels = 1;[video];[[categories]];safety = [];prompts = [{}];= ];categories = 1;[thresholds];"
    junk += "low = [];name = {a = [1]};[categories.labels];nudenet = [[]]"
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(lines))
        lines[at : at + random.randrange(3)] = random.choices(junk.split(";"), k=random.randrange(2))
    text = "\n".join(lines)
    try:
        policy = parse_policy(text, "my.toml")
    except PolicyError as error:
        for message in str(error).splitlines():
            assert message.startswith("my.toml:")
            assert 1 <= int(message.split(":")[1]) <= len(text.splitlines())
    else:
        assert len(policy.categories) >= 2
        assert len(policy.hash) == 8


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        (HEAD + TAIL.replace("otherwise = true\n", ""), "nudenet is refused"),
        (HEAD + TAIL, "hf:a/b sees no SAFE category"),
        (HEAD + TAIL.replace('prompts = ["good"]', ""), "a text-image model sees no SAFE category"),
        (
            INDEPENDENT + TAIL.replace('prompts = ["good"]', ""),
            "a text-image model sees no SAFE category, and is refused",
        ),
        (HEAD + TAIL.replace('prompts = ["bad"]', ""), "a text-image model cannot see bad"),
    ],
)
def test_what_is_no_fault_but_odd_is_remarked(text: str, remark: str) -> None:
    assert any(remark in found for found in policy_notes(parse_policy(text, "my.toml")))
