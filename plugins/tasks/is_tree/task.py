"""IsTree: whether a graph is a tree, at once, after a depth-first tour, or after a walk by searches."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from hybrids.errors import UserError, check_number
from hybrids.registry import register
from hybrids.rng import Draws
from hybrids.task import Batch, DecodedTask, Episode, Split, Task
from hybrids.tasks.in_context_search import SearchTokens, last_query
from hybrids.tasks.recall_task import RecallTask, Stored
from hybrids.tasks.sizes import powers_of_two
from hybrids_plugins.tasks.is_tree.degrees import guess_hub, guess_uniform
from hybrids_plugins.tasks.is_tree.random_graphs import Graphs, Ordered, hub_graphs, order_edges, uniform_graphs
from hybrids_plugins.tasks.is_tree.searches import Words, search_trace
from hybrids_plugins.tasks.is_tree.steps import Edges, find_edge, find_record, is_tree, search_walk, tour
from hybrids_plugins.tasks.is_tree.traces import Trace, always, cut, join, pack
from hybrids_plugins.tasks.is_tree.walks import Forest, visit, walk_forest

SPECIALS = (
    "[PAD]",
    "[BOS]",
    "[EOS]",
    "[TRUE]",
    "[FALSE]",
    "[STARTSEARCH]",
    "[ENDSEARCH]",
    "[FAILED]",
    "-",
    "~",
    "[IDLE]",
)
PAD, BOS, EOS, TRUE, FALSE, OPEN, CLOSE, FAILED, EDGE, RECORD, IDLE = range(len(SPECIALS))
NODE = len(SPECIALS)
"""Node v is token NODE + v."""
WORDS = Words(open=OPEN, close=CLOSE, failed=FAILED, edge=EDGE, record=RECORD, node=NODE)

GENERATORS = {"hub": hub_graphs, "uniform": uniform_graphs}
GUESSES = {"hub": guess_hub, "uniform": guess_uniform}
SMALLEST, LARGEST = 4, 2**15
"""Numbers of nodes: below, every graph of n - 1 edges is a tree; above, keys of sorting would not be exact."""


@register("task", "is_tree", source="arXiv:2402.18510, section 4.2 and appendix C, with the data of its code")
class IsTree(RecallTask, DecodedTask):
    """Whether a graph of n nodes and n - 1 edges is a tree.

    The prompt gives the edges in random order, the larger node first; the trace depends on the mode. Examples of 4
    nodes, indices 6 and 1 of seed 0, with `|` after the prompt:

        vanilla    [BOS] 2 - 0 3 - 2 3 - 0 [EOS] | [FALSE]
        cot        [BOS] 2 - 0 3 - 2 3 - 0 [EOS] | 0 2 3 [EOS] [FALSE]
        cot        [BOS] 2 - 0 3 - 2 1 - 0 [EOS] | 0 2 3 2 0 1 0 [EOS] [TRUE]
        retrieval  [BOS] 2 - 0 3 - 2 3 - 0 [EOS] | 0 < 0 ~ > [FAILED] < 0 - > 2 < 2 ~ > [FAILED] 2 ~ 0
                   2 < 2 ~ > 0 < 2 - > 0 < 2 - 0 > 3 < 3 ~ > [FAILED] 3 ~ 2
                   3 < 3 ~ > 2 < 3 - > 2 < 3 - 2 > 0 < 0 ~ > [FAILED] [EOS] [FALSE]

    with < and > for [STARTSEARCH] and [ENDSEARCH]. `cot` is a depth-first tour from 0, edges in the order of the
    prompt, a node again on every return, which stops before a visited node that is not the parent. In `retrieval` that
    walk searches, at each visit, for the parent of the node, an edge of it (the first, or the one after another) and
    the record of where that leads: `3 ~ 2`, the parent of 3 is 2. What follows [ENDSEARCH] is returned by `search`.

    Vocabulary: 11 specials ([PAD] is 0), then `max_num_nodes` nodes, in all modes. Settings:
    `graph`: `hub` (published; P(tree) is exactly 1/2 for every n) or `uniform` (a random labelled tree, or one that was
    rewired keeping all degrees), laws in random_graphs.py beside this file; the same graphs and orders in every mode.
    `stop_early=False` (cot): the tour passes visited nodes by, and when 0 has no edge left goes on to the smallest node
    that was not visited, and back: 2n - 1 nodes for every graph, where else the length tells the answer.
    `idle` (vanilla, cot): [IDLE], forced and not asked for, before the answer; `longest`: as many as make the trace as
    long as the longest of `retrieval`, `example`: as that of the same graph, so that their number tells the answer.
    `root_record` (retrieval): 0 is its own parent and the trace begins with `0 ~ 0`. As published (default), a cycle
    that closes at 0 ends in a record search that fails, as for a node that was not visited: the model has to know 0.

    Lengths: the prompt 3n - 1; of a tree, the tour 2n - 1 and the searches 37n - 26 (3 more with `root_record`): 6 for
    each of 2n - 1 visits, 5 for n first edges, 6 for n - 1 others, 6 to pass each parent by, 8 to record a node. Other
    walks find j < n nodes and write what a tree of j nodes may, but for the look-up of 5 that ends them: at most
    37j - 26 + 5, which is less. [EOS] and the answer are 2 more.

    Chance: of the answer, by whoever sees the degrees alone. `hub`: the closer the two large degrees are, the more
    likely a tree; 0.625, 0.594, 0.536, 0.517, 0.508 at n = 6, 8, 16, 32, 64, as in the published data. `uniform`: trees
    of diameter 3 or less are told; 0.583, 0.503 at n = 6, 8. Of 4 nodes the degrees tell all. A constant is right in
    1/2. Tokens of a trace count alike when teacher-forced; no constant guesses half of them.
    Bits: None, the answer is computed, not stored: one bit at the end of the prompt, though a tour needs all edges.
    Source: arXiv:2402.18510 and `rnn/data.py` of dangxingyu/rnn-icrag, whose tokens these are.
    Differs: unused specials are left out, nodes are 0 ... n - 1, [UNK] is [IDLE]; the published tour without stopping
    ends with the component of 0, and the published idle tokens have a fixed number; `uniform` replaces `random`.
    """

    choices: ClassVar = {
        "graph": tuple(GENERATORS),
        "mode": ("vanilla", "cot", "retrieval"),
        "idle": ("none", "longest", "example"),
    }
    constant_slices = ("num_nodes",)

    def __init__(
        self,
        *,
        num_nodes: int = 16,
        max_num_nodes: int = 128,
        graph: str = "hub",
        mode: str = "cot",
        stop_early: bool = True,
        idle: str = "none",
        root_record: bool = False,
    ) -> None:
        self.num_nodes, self.max_num_nodes, self.graph, self.mode = num_nodes, max_num_nodes, graph, mode
        self.stop_early, self.idle, self.root_record = stop_early, idle, root_record
        self._check()
        self.vocab_size = NODE + max_num_nodes
        self.prompt_length = 3 * num_nodes - 1
        self.length = self._length(num_nodes)
        self.trace_length = self.length - self.prompt_length
        """Tokens of the longest trace."""
        asked = {"vanilla": 1, "cot": 2 * num_nodes + 1, "retrieval": self.trace_length - (6 * num_nodes - 4)}
        self.num_targets = self.max_new_tokens = asked[mode]
        self.stop_tokens = (TRUE, FALSE)
        chance = GUESSES[graph](num_nodes)
        self.stored = Stored(facts=num_nodes - 1, num_symbols=2, bits=None, chance=chance)  # facts are edges
        self.varying_slices = {"is_tree": (0, 1)}
        low = max(SMALLEST, (num_nodes + 1) // 2)
        self.grid = {"num_nodes": powers_of_two(low, min(max_num_nodes, 8 * num_nodes))}

    def sample(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> Batch:
        draws = Draws.of(index, seed=seed, stream=split)
        graphs = GENERATORS[self.graph](draws, self.num_nodes)
        ordered = order_edges(graphs, draws.distinct("order", self.num_nodes - 1, self.num_nodes - 1))
        trace = pack(self._write(graphs, ordered), length=self.trace_length, num_targets=self.num_targets)
        tokens = torch.cat([self._prompt(ordered.ends), trace.tokens], dim=1)
        positions = trace.places + self.prompt_length - 1
        label = graphs.is_tree.to(torch.int64)
        return self.make_batch(tokens, positions, trace.targets, valid=trace.valid, is_tree=label)

    def solve_row(self, row: list[int], places: list[int]) -> list[int]:
        """What stands after each place once the trace is written behind the prompt, step by step."""
        prompt = row[: self.prompt_length]
        text = prompt + self._solve_prompt(prompt)
        return [text[place + 1] if place + 1 < len(text) else PAD for place in places]

    def episodes(self, index: Int[Tensor, " B"], *, seed: int, split: Split) -> list[Episode]:
        batch = self.sample(index, seed=seed, split=split)
        # Added, since an entry that is not valid may name the place of one that is.
        asked = torch.zeros_like(batch.tokens).scatter_add_(1, batch.positions + 1, batch.valid.to(torch.int64))
        return [Episode(*cut(*rows)) for rows in zip(batch.tokens.tolist(), asked.tolist(), strict=True)]

    def search(self, tokens: Sequence[int]) -> list[int] | None:
        """The parent of a node, an edge, or FAILED; with `idle`, after a tour, as many idle tokens as are missing."""
        if self.mode == "cot" and self.idle != "none":
            return self._search_idle(list(tokens))
        query = last_query(tokens, SearchTokens(OPEN, CLOSE, FAILED)) if self.mode == "retrieval" else None
        if query is None:
            return None
        found = None
        match query.words:
            case [node, word] if word == RECORD:
                found = find_record(query.text, node, WORDS)
            case [node, word, *after] if word == EDGE and len(after) <= 1:
                other = find_edge(_edges(query.text), node - NODE, *(token - NODE for token in after))
                found = None if other < 0 else NODE + other
        return [FAILED if found is None else found]

    def _search_idle(self, tokens: list[int]) -> list[int] | None:
        if tokens[-1] != EOS or tokens.count(EOS) != 2:
            return None
        return [IDLE] * self._count_idle(_edges(tokens), len(tokens) - self.prompt_length) or None

    def judge(self, episode: Episode, written: Sequence[int]) -> bool | None:
        """By the first [TRUE] or [FALSE]."""
        answer = next((token for token in written if token in self.stop_tokens), None)
        return None if answer is None else answer == episode.trace[-1]

    def spell(self, token: int) -> str:
        """The number of a node; `-` for an edge, `~` before a parent."""
        return SPECIALS[token] if token < NODE else str(token - NODE)

    def at_context(self, context: int) -> Task:
        """The most nodes whose examples fit into the context."""
        slope = self._length(2) - self._length(1)
        return self.replace(num_nodes=1 + (context - self._length(1)) // slope)

    def _length(self, num_nodes: int) -> int:
        """Of the longest example with so many nodes."""
        trace = {"vanilla": 1, "cot": 2 * num_nodes + 1}
        searches = 37 * num_nodes - 24 + 3 * self.root_record
        return 3 * num_nodes - 1 + (trace.get(self.mode, searches) if self.idle == "none" else searches)

    def _check(self) -> None:
        self.check_choices()
        check_number("max_num_nodes", self.max_num_nodes, SMALLEST, LARGEST)
        why = "max_num_nodes, which sets the vocabulary"
        check_number("num_nodes", self.num_nodes, SMALLEST, self.max_num_nodes, why)
        for name, default, modes in (
            ("stop_early", True, ("cot",)),
            ("idle", "none", ("vanilla", "cot")),
            ("root_record", False, ("retrieval",)),
        ):
            if getattr(self, name) != default and self.mode not in modes:
                raise UserError(f"{name}={getattr(self, name)} needs mode={' or '.join(modes)}, not mode={self.mode}")

    def _prompt(self, ends: Int[Tensor, "B n_1 2"]) -> Int[Tensor, "B C"]:
        """Of the edges with these ends, in their order."""
        prompt = torch.full((len(ends), self.prompt_length), EDGE, device=ends.device)
        prompt[:, 1:-1:3], prompt[:, 3::3] = (NODE + ends).unbind(2)
        prompt[:, 0], prompt[:, -1] = BOS, EOS
        return prompt

    def _write(self, graphs: Graphs, ordered: Ordered) -> Trace:
        """The trace of the mode, with its end and answer."""
        answer = torch.where(graphs.is_tree, TRUE, FALSE)[:, None]
        parts = []
        if self.mode == "retrieval":
            parts.append(self._write_searches(graphs, ordered))
        if self.mode == "cot":
            parts.append(self._write_tour(graphs, ordered))
        if parts:
            parts.append(always(torch.full_like(answer, EOS)))
        if self.idle != "none":
            parts.append(self._write_idle(graphs, ordered, parts))
        return join([*parts, always(answer)])

    def _write_tour(self, graphs: Graphs, ordered: Ordered) -> Trace:
        visits = visit(self._walk(graphs, ordered, whole=not self.stop_early))
        turn = torch.arange(visits.node.shape[1], device=visits.node.device)
        return Trace(NODE + visits.node, turn < visits.number[:, None], torch.zeros_like(turn, dtype=torch.bool))

    def _write_searches(self, graphs: Graphs, ordered: Ordered) -> Trace:
        forest = self._walk(graphs, ordered, whole=False)
        return search_trace(forest, visit(forest), WORDS, root_record=self.root_record)

    def _write_idle(self, graphs: Graphs, ordered: Ordered, parts: Sequence[Trace]) -> Trace:
        """As many idle tokens as are missing between these parts and the answer."""
        columns = torch.arange(self.trace_length - 1, device=ordered.key.device)
        total = torch.full_like(ordered.key[:, :1], self.trace_length)
        if self.idle == "example":
            total = self._write_searches(graphs, ordered).written.sum(1, keepdim=True) + 2
        missing = total - 1 - sum(part.written.sum(1, keepdim=True) for part in parts)
        tokens = torch.full_like(columns, IDLE).expand(len(total), -1)
        return Trace(tokens, columns < missing, torch.ones_like(columns, dtype=torch.bool))

    def _walk(self, graphs: Graphs, ordered: Ordered, *, whole: bool) -> Forest:
        _, key, chord_key = ordered
        return walk_forest(graphs.parent, key, graphs.chord, chord_key, ~graphs.is_tree, whole=whole)

    def _solve_prompt(self, prompt: Sequence[int]) -> list[int]:
        """The trace that follows a prompt."""
        edges, trace = _edges(prompt), []
        if self.mode == "retrieval":
            trace = search_walk(edges, self.num_nodes, WORDS, root_record=self.root_record)
        if self.mode == "cot":
            trace = [NODE + node for node in tour(edges, self.num_nodes, stop_early=self.stop_early)]
        trace += [EOS] * (self.mode != "vanilla")
        trace += [IDLE] * self._count_idle(edges, len(trace))
        return [*trace, TRUE if is_tree(edges, self.num_nodes) else FALSE]

    def _count_idle(self, edges: Edges, num_written: int) -> int:
        """Idle tokens after so many others of a trace."""
        if self.idle == "none":
            return 0
        total = self.trace_length
        if self.idle == "example":
            total = len(search_walk(edges, self.num_nodes, WORDS, root_record=False)) + 2
        return max(0, total - 1 - num_written)


def _edges(tokens: Sequence[int]) -> list[tuple[int, int]]:
    """The edges of a prompt, whatever follows it."""
    end = list(tokens).index(EOS)
    return [(tokens[place] - NODE, tokens[place + 2] - NODE) for place in range(1, end, 3)]
