// CompressKV, arXiv 2508.02401. A few query heads of each layer vote, as SnapKV does, and all heads of the layer keep the
// entries they choose; what a layer gets follows how much its output suffers from compression. Two tables say so:
// `voting_heads`, 1 for a head that votes and 0 for others, and `importance`, one number for each layer. Without tables all
// heads vote and layers get the same. Calibration asks for a needle, `needles` times: in each of the `answer` rows that
// produce the answer a head scores its mass on the needle, as often as the token produced stands in it; the `voters` best
// query heads of a layer vote, equal ones together. `importance` is measured outside.
// Budget C: the mean over layers, window included. floor + round(share of importance x (C - floor) L) within floor and
// ceiling C; what is then missing (or too much) is spread by ones, important layers first (or last). Halves to even.
!m = !kvcache.tensor<f32>
!hg = !kvcache.tensor<head:Hkv, group:G, f32>
!sT = !kvcache.tensor<token:?, f32>
!table = !kvcache.tensor<layer:L, head:Hkv, group:G, f32>
!other = !kvcache.tensor<layer:L, head.other:Hkv, group.other:G, f32>
!pairs = !kvcache.tensor<layer:L, head:Hkv, group:G, head.other:Hkv, group.other:G, f32>
!mL = !kvcache.tensor<layer:L, f32>
!mO = !kvcache.tensor<layer.other:L, f32>
!iL = !kvcache.tensor<layer:L, i32>
!iO = !kvcache.tensor<layer.other:L, i32>
!all = !kvcache.index<token.keep:? of token>
kvcache.method @compresskv info {family = "allocate", paper = "arXiv 2508.02401", title = "CompressKV"} {
  kvcache.param @window = 8 : index in [1, 4096]
  kvcache.param @kernel = 5 : index in {1, 3, 5, 7, 9, 11, 13, 15, 21, 31, 63}
  kvcache.param @pooling = "avg" in {"avg", "max"}
  kvcache.param @floor = 32 : index in [0, 1048576]
  kvcache.param @ceiling = 3 : index in [1, 4096]
  kvcache.param @budget = 512 : index
  kvcache.param @voters = 4 : index in [1, 4096]
  kvcache.param @needles = 20 : index in [1, 4096]
  kvcache.param @needle_length = 1024 : index in [128, 1048576]
  kvcache.param @answer = 5 : index in [1, 4096]
  kvcache.artefact @voting_heads : !table else 1.0
  kvcache.artefact @importance : !mL from file else 1.0
  kvcache.state @kv : !kv
  kvcache.phase calibrate (%q = last_queries(answer) : !qw, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kv, %ids = ids : !p, %needle = request(needle) : !pT, %made = request(produced) : !p, %T = length : index, %n = @answer : index) on(needle(needles, needle_length)) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
    %id = kvcache.relabel %ids : (!p) -> !pT
    %w = arith.minui %n, %T : index
    %from = arith.subi %T, %w : index
    %last = kvcache.slice %made along query from %from size %w : (!p, index, index) -> !p
    %y = kvcache.relabel %last : (!p) -> !kvcache.tensor<query.win:?, i32>
    %same = kvcache.map "select(m == 1 & id == y, 1, 0)" (m = %needle, id = %id, y = %y) : (!pT, !pT, !kvcache.tensor<query.win:?, i32>) -> !kvcache.tensor<query.win:?, token:?, f32>
    %times = kvcache.reduce sum %same over [token] : (!kvcache.tensor<query.win:?, token:?, f32>) -> !kvcache.tensor<query.win:?, f32>
    %mass = kvcache.score.reduce sum "select(m == 1, t * p, 0)" (m = %needle, t = %times) of %q over %c causal along [query.win] : (!qw, !kv, !pT, !kvcache.tensor<query.win:?, f32>) -> !sg
    %score = kvcache.reduce sum %mass over [token] : (!sg) -> !hg
    kvcache.next seen = %score : !hg
  }
  kvcache.phase calibrate (%s = seen : !table, %n = @voters : index) scope(model) {
    %o = kvcache.relabel %s : (!table) -> !other
    %better = kvcache.map "select(o > s, 1, 0)" (o = %o, s = %s) : (!other, !table) -> !pairs
    %rank = kvcache.reduce sum %better over [head.other, group.other] : (!pairs) -> !table
    %vote = kvcache.map "select(r < n, 1, 0)" (r = %rank, n = %n) : (!table, index) -> !table
    kvcache.next @voting_heads = %vote : !table
  }
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kv, %vote = @voting_heads : !hg, %T = length : index, %W = @window : index, %n = @kernel : index) on(prompt_end) {
    %w = arith.minui %W, %T : index
    %S = arith.subi %T, %w : index
    %votes = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kv) -> !sg
    %pooled = kvcache.pool pooling %votes over [token] size %n upto %S : (!sg, index, index) -> !sg
    %own = kvcache.map "vote * s" (vote = %vote, s = %pooled) : (!hg, !sg) -> !sg
    %sum = kvcache.reduce sum %own over [head, group] : (!sg) -> !sT
    %voters = kvcache.reduce sum %vote over [head, group] : (!hg) -> !m
    %s = kvcache.map "sum / voters" (sum = %sum, voters = %voters) : (!sT, !m) -> !sT
    kvcache.next score = %s : !sT
  }
  kvcache.phase allocate (%imp = @importance : !mL, %C = budget : index, %L = layers : index, %lowest = @floor : index, %times = @ceiling : index) scope(model) {
    %f = arith.minui %lowest, %C : index
    %most = arith.muli %times, %C : index
    %whole = kvcache.reduce sum %imp over [layer] : (!mL) -> !m
    %raw = kvcache.map "min(max(f + round(w / whole * (C - f) * L), f), most)" (w = %imp, whole = %whole, C = %C, f = %f, L = %L, most = %most) : (!mL, !m, index, index, index, index) -> !mL
    %held = kvcache.reduce sum %raw over [layer] : (!mL) -> !m
    %up = kvcache.map "select(held <= C * L, 1.0, -1.0)" (held = %held, C = %C, L = %L) : (!m, index, index) -> !m
    // Each layer can take (or give) `room`. `turns` is how often all that still can do so; the rest goes by rank.
    %room = kvcache.map "select(up > 0, most - raw, raw - f)" (up = %up, most = %most, raw = %raw, f = %f) : (!m, index, !mL, index) -> !mL
    %sorted = kvcache.sort ascending %room along layer : (!mL) -> !mL
    %upto = kvcache.scan sum %sorted along layer : (!mL) -> !mL
    %k = kvcache.iota layer of %sorted : (!mL) -> !iL
    %bound = kvcache.map "floor((up * (C * L - held) - upto + r) / (L - k))" (up = %up, C = %C, L = %L, held = %held, upto = %upto, r = %sorted, k = %k) : (!m, index, index, !m, !mL, !mL, !iL) -> !mL
    %turns = kvcache.reduce max %bound over [layer] : (!mL) -> !m
    %given = kvcache.map "min(room, turns)" (room = %room, turns = %turns) : (!mL, !m) -> !mL
    %spread = kvcache.reduce sum %given over [layer] : (!mL) -> !m
    %key = kvcache.map "select(room > turns, up * w, -inf)" (room = %room, turns = %turns, up = %up, w = %imp) : (!mL, !m, !m, !mL) -> !mL
    %other = kvcache.relabel %key : (!mL) -> !mO
    %j = kvcache.iota layer.other of %other : (!mO) -> !iO
    %before = kvcache.map "select(o > key | o == key & j < k, 1.0, 0.0)" (key = %key, o = %other, k = %k, j = %j) : (!mL, !mO, !iL, !iO) -> !kvcache.tensor<layer:L, layer.other:L, f32>
    %rank = kvcache.reduce sum %before over [layer.other] : (!kvcache.tensor<layer:L, layer.other:L, f32>) -> !mL
    %b = kvcache.map "raw + up * (given + select(room > turns & rank < up * (C * L - held) - spread, 1.0, 0.0))" (raw = %raw, up = %up, given = %given, room = %room, turns = %turns, rank = %rank, C = %C, L = %L, held = %held, spread = %spread) : (!mL, !m, !mL, !mL, !m, !mL, index, index, !m, !m) -> !iL
    kvcache.next budget = %b : !iL
  }
  kvcache.phase select (%s = score : !sT, %b = budget : !kvcache.tensor<i32>, %W = @window : index) {
    %keep = kvcache.select.topk %s budget %b last %W : (!sT, !kvcache.tensor<i32>, index) -> !all
    kvcache.next keep = %keep : !all
  }
}
