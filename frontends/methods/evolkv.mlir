// EvolKV, arXiv 2509.08315. SnapKV's scores; how many entries a layer keeps is a vector that an evolutionary search over
// scores of tasks has found: the artefact `budgets`, one number for each layer, window included. Without one all layers
// get the same.
// Budget: the mean over layers, window included, the same for the row heads of a layer: the vector is scaled to it, each
// layer gets between window + 1 and the prompt, and largest remainders make integers of it.
// Deviation: what a bound adds or cuts is shared by the other layers in proportion, where the paper repairs by ones.
!m = !kvcache.tensor<f32>
!mL = !kvcache.tensor<layer:L, f32>
!iL = !kvcache.tensor<layer:L, i32>
kvcache.method @evolkv info {family = "allocate", paper = "arXiv 2509.08315", title = "EvolKV"} {
  kvcache.param @window = 32 : index in [1, 4096]
  kvcache.param @kernel = 7 : index in {1, 3, 5, 7, 9, 11, 13, 15, 21, 31, 63}
  kvcache.param @pooling = "max" in {"avg", "max"}
  kvcache.param @granularity = "kv_head" in {"kv_head", "query_head"}
  kvcache.param @budget = 1024 : index
  kvcache.artefact @budgets : !mL from file else 1.0
  kvcache.state @kv : !kvG
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kvG, %T = length : index, %W = @window : index, %n = @kernel : index) on(prompt_end) {
    %w = arith.minui %W, %T : index
    %S = arith.subi %T, %w : index
    %votes = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kvG) -> !sg
    %pooled = kvcache.pool pooling %votes over [token] size %n upto %S : (!sg, index, index) -> !sg
    %s = kvcache.reduce mean %pooled over [group] : (!sg) -> !sG
    kvcache.next score = %s : !sG
  }
  kvcache.phase allocate (%k = @budgets : !mL, %B = budget : index, %L = layers : index, %T = length : index, %W = @window : index) scope(model) {
    %one = arith.constant 1 : index
    %total = arith.muli %B, %L : index
    %low = arith.addi %W, %one : index
    %sum = kvcache.reduce sum %k over [layer] : (!mL) -> !m
    // Above the floor, so that floor and share are the scaled vector.
    %share = kvcache.map "max(0, k / sum * total - low)" (k = %k, sum = %sum, total = %total, low = %low) : (!mL, !m, index, index) -> !mL
    %c = kvcache.select.alloc proportional %share total %total floor %low cap %T : (!mL, index, index, index) -> !iL
    %b = kvcache.map "select(B <= W | T <= B, B, c)" (B = %B, W = %W, T = %T, c = %c) : (index, index, index, !iL) -> !iL
    kvcache.next budget = %b : !iL
  }
  kvcache.phase select (%s = score : !sG, %b = budget : !kvcache.tensor<i32>, %W = @window : index) {
    %keep = kvcache.select.topk %s budget %b last %W : (!sG, !kvcache.tensor<i32>, index) -> !keepG
    kvcache.next keep = %keep : !keepG
  }
}
