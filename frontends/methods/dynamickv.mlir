// DynamicKV, arXiv 2412.14838. SnapKV's scores. A layer first holds radius (budget - window) entries before its window at most;
// after every `interval` layers the best of all scores so far are counted in each layer, and these counts, in whole
// numbers, share out what all layers may hold. What a layer holds is the least that it is ever granted.
// Score: sum over the window's rows, mean over the group, then pooled.
// Budget: mean over layers, window included, the same for the row heads of a layer. A budget of at most the window keeps the newest.
// Deviations: final_update shares out after the last layer, too, so that the budget holds whatever the number of layers;
// where truncation leaves no shares, the counts are; all is planned at the end of the prompt, so memory does not stay low while it is read.
!sL = !kvcache.tensor<layer:L, head:Hkv, group:Gs, token:?, f32>
!iL = !kvcache.tensor<layer:L, i32>
!iS = !kvcache.tensor<layer.seen:L, i32>
!iHS = !kvcache.tensor<layer:L, head:Hkv, group:Gs, layer.seen:L, i32>
!iLS = !kvcache.tensor<layer:L, layer.seen:L, i32>
kvcache.method @dynamickv info {family = "allocate", paper = "arXiv 2412.14838", title = "DynamicKV"} {
  kvcache.param @window = 8 : index in [1, 4096]
  kvcache.param @kernel = 7 : index in {1, 3, 5, 7, 9, 11, 13, 15, 21, 31, 63}
  kvcache.param @pooling = "max" in {"avg", "max"}
  kvcache.param @radius = 10 : index in [1, 4096]
  kvcache.param @interval = 4 : index in [1, 4096]
  kvcache.param @final_update = true
  kvcache.param @granularity = "kv_head" in {"kv_head", "query_head"}
  kvcache.param @budget = 1024 : index
  kvcache.state @kv : !kvG
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kvG, %T = length : index, %W = @window : index, %n = @kernel : index) on(prompt_end) {
    %w = arith.minui %W, %T : index
    %S = arith.subi %T, %w : index
    %votes = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kvG) -> !sg
    %mean = kvcache.reduce mean %votes over [group] : (!sg) -> !sG
    %s = kvcache.pool pooling %mean over [token] size %n upto %S : (!sG, index, index) -> !sG
    kvcache.next score = %s : !sG
  }
  // Column s: what is shared out once layers 0 .. s are known.
  kvcache.phase allocate (%s = score : !sL, %B = budget : index, %L = layers : index, %T = length : index, %W = @window : index, %r = @radius : index, %every = @interval : index, %final = @final_update : i1) scope(model) {
    %w = arith.minui %W, %B : index
    %P = arith.subi %B, %w : index
    %wT = arith.minui %W, %T : index
    %S = arith.subi %T, %wT : index
    %rP = arith.muli %r, %P : index
    %most = arith.minui %rP, %S : index
    %total = arith.muli %P, %L : index
    %kvHeads = kvcache.extent head of %s : (!sL) -> index
    %group = kvcache.extent group of %s : (!sL) -> index
    %heads = arith.muli %kvHeads, %group : index
    %each = arith.muli %heads, %P : index
    %i = kvcache.iota token of %s : (!sL) -> !pT
    %prefix = kvcache.map "select(i < S, s, -inf)" (i = %i, S = %S, s = %s) : (!pT, index, !sL) -> !sL
    %l = kvcache.iota layer of %s : (!sL) -> !iL
    %last = kvcache.relabel %l : (!iL) -> !iS
    %seen = kvcache.map "s + 1" (s = %last) : (!iS) -> !iS
    %due = kvcache.map "select(m == every * floor(m / every) | final & m == L, 1, 0)" (m = %seen, every = %every, final = %final, L = %L) : (!iS, index, i1, index) -> !iS
    %n = kvcache.map "due * m * each" (due = %due, m = %seen, each = %each) : (!iS, !iS, index) -> !iS
    %found = kvcache.select.alloc global_topk %prefix total %n upto %seen along layer : (!sL, !iS, !iS) -> !iHS
    %count = kvcache.reduce sum %found over [head, group] : (!iHS) -> !iLS
    %c0 = kvcache.map "floor(c / m)" (c = %count, m = %seen) : (!iLS, !iS) -> !iLS
    %all = kvcache.reduce sum %count over [layer] : (!iLS) -> !iS
    %sum0 = kvcache.reduce sum %c0 over [layer] : (!iLS) -> !iS
    %c1 = kvcache.map "c + select(l + 1 == L & m == L, n / L - sum, 0)" (c = %c0, l = %l, L = %L, m = %seen, n = %all, sum = %sum0) : (!iLS, !iL, index, !iS, !iS, !iS) -> !iLS
    %sum1 = kvcache.reduce sum %c1 over [layer] : (!iLS) -> !iS
    %share = kvcache.map "select(sum > 0, c, n)" (sum = %sum1, c = %c1, n = %count) : (!iS, !iLS, !iLS) -> !iLS
    %shares = kvcache.reduce sum %share over [layer] : (!iLS) -> !iS
    // Whole numbers: these products are no f32.
    %raw0 = kvcache.map %share, %shares, %most : (!iLS, !iS, index) -> !iLS {
    ^bb0(%c: i32, %sum: i32, %size: index):
      %one = arith.constant 1 : index
      %part = arith.index_cast %c : i32 to index
      %of = arith.index_cast %sum : i32 to index
      %some = arith.maxui %of, %one : index
      %product = arith.muli %size, %part : index
      %quotient = arith.divui %product, %some : index
      %out = arith.index_cast %quotient : index to i32
      kvcache.yield %out : i32
    }
    %rawSum = kvcache.reduce sum %raw0 over [layer] : (!iLS) -> !iS
    %raw = kvcache.map "select(sum > 0, raw, c)" (sum = %rawSum, raw = %raw0, c = %share) : (!iS, !iLS, !iLS) -> !iLS
    %raws = kvcache.reduce sum %raw over [layer] : (!iLS) -> !iS
    %b0 = kvcache.map %raw, %raws, %total : (!iLS, !iS, index) -> !iLS {
    ^bb0(%c: i32, %sum: i32, %size: index):
      %least = arith.constant 1 : index
      %part = arith.index_cast %c : i32 to index
      %of = arith.index_cast %sum : i32 to index
      %some = arith.maxui %of, %least : index
      %product = arith.muli %size, %part : index
      %quotient = arith.divui %product, %some : index
      %out = arith.index_cast %quotient : index to i32
      kvcache.yield %out : i32
    }
    %given = kvcache.reduce sum %b0 over [layer] : (!iLS) -> !iS
    %granted = kvcache.map "select(due == 1 & l <= s, min(most, b + select(l == s, total - given, 0)), most)" (due = %due, l = %l, s = %last, most = %most, b = %b0, total = %total, given = %given) : (!iS, !iL, !iS, index, !iLS, index, !iS) -> !iLS
    %held = kvcache.reduce min %granted over [layer.seen] : (!iLS) -> !iL
    %b = kvcache.map "select(T <= B, T, select(B <= W, B, held + W))" (T = %T, B = %B, W = %W, held = %held) : (index, index, index, !iL) -> !iL
    kvcache.next budget = %b : !iL
  }
  kvcache.phase select (%s = score : !sG, %b = budget : !kvcache.tensor<i32>, %W = @window : index) {
    %keep = kvcache.select.topk %s budget %b last %W : (!sG, !kvcache.tensor<i32>, index) -> !keepG
    kvcache.next keep = %keep : !keepG
  }
}
