// SCOPE, arXiv 2412.13649. What the compressed prompt keeps is never touched again; generated entries share a window
// of their own: the newest `recent`, and of the others those that the current query attends to most, without history.
// Budget: entries of the prompt per row head. mode=slide: `decode_window` generated entries at most; adaptive: the
// window starts at `recent` and grows by one every delta = (max_new - recent) / (decode_window - recent) steps;
// discontinuous: the same, and entries leave only every delta steps. prefill: how the prompt is compressed, by
// SnapKV's scores over the last `window` rows, by H2O's sums over all rows (the last `window` stay), or not at all.
// Deviation: probabilities are averaged over the query heads of a group, because K and V are held per KV head;
// granularity=query_head has entries for each. The step counter belongs to a layer.
!kvv = !kvcache.cache<append, head:Hkv, group:Gs, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, vote = f32}>
!posG = !kvcache.tensor<head:Hkv, group:Gs, token:?, i32>
!n = !kvcache.tensor<i32>
kvcache.method @scope info {family = "select", paper = "arXiv 2412.13649", title = "SCOPE"} {
  kvcache.param @mode = "slide" in {"slide", "adaptive", "discontinuous"}
  kvcache.param @recent = 256 : index in [0, 1048576]
  kvcache.param @decode_window = 512 : index in [0, 1048576]
  kvcache.param @max_new = 4096 : index in [1, 1048576]
  kvcache.param @prefill = "snapkv" in {"snapkv", "h2o", "none"}
  kvcache.param @window = 8 : index in [1, 4096]
  kvcache.param @kernel = 7 : index in {1, 3, 5, 7, 9, 11, 13, 15, 21, 31, 63}
  kvcache.param @pooling = "max" in {"avg", "max"}
  kvcache.param @granularity = "kv_head" in {"kv_head", "query_head"}
  kvcache.param @budget = 2048 : index
  kvcache.state @kv : !kvv
  kvcache.phase prefill (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kvv) when(@prefill = "h2o") {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kvv, !k, !v, !p) -> !kvv
    %o, %sum = kvcache.attend %q over %c causal stats(sum(p, over(query))) : (!q, !kvv) -> (!o, !sg)
    %new = kvcache.reduce mean %sum over [group] : (!sg) -> !sG
    %old = kvcache.column vote of %c : (!kvv) -> !sG
    %vote = kvcache.map %old, %new with arith.addf : (!sG, !sG) -> !sG
    %d = kvcache.set_column %c, vote = %vote : (!kvv, !sG) -> !kvv
    kvcache.next out = %o : !o, @kv = %d : !kvv
  }
  kvcache.phase decode (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kvv) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kvv, !k, !v, !p) -> !kvv
    %o, %row = kvcache.attend %q over %c causal stats(sum(p, over(query))) : (!q, !kvv) -> (!o, !sg)
    %vote = kvcache.reduce mean %row over [group] : (!sg) -> !sG
    %d = kvcache.set_column %c, vote = %vote : (!kvv, !sG) -> !kvv
    kvcache.next out = %o : !o, @kv = %d : !kvv
  }
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !kvv, %T = length : index, %W = @window : index, %n = @kernel : index) on(prompt_end) when(@prefill = "snapkv") {
    %w = arith.minui %W, %T : index
    %S = arith.subi %T, %w : index
    %votes = kvcache.score.attention %q over %kv causal stats(sum(p, over(query.win))) : (!qw, !kvv) -> !sg
    %pooled = kvcache.pool pooling %votes over [token] size %n upto %S : (!sg, index, index) -> !sg
    %s = kvcache.reduce mean %pooled over [group] : (!sg) -> !sG
    kvcache.next score = %s : !sG
  }
  kvcache.phase score (%kv = @kv : !kvv) on(prompt_end) when(@prefill = ["h2o", "none"]) {
    %s = kvcache.column vote of %kv : (!kvv) -> !sG
    kvcache.next score = %s : !sG
  }
  kvcache.phase select (%s = score : !sG, %B = budget : index, %T = length : index, %W = @window : index, %how = @prefill : index) on(prompt_end) {
    %n = kvcache.map "select(how == 2, T, B)" (how = %how, T = %T, B = %B) : (index, index, index) -> !n
    %keep = kvcache.select.topk %s budget %n last %W : (!sG, !n, index) -> !keepG
    kvcache.next keep = %keep : !keepG
  }
  kvcache.phase allocate (%step = step : index, %mode = @mode : index, %r = @recent : index, %W = @decode_window : index, %most = @max_new : index) on(step_end) {
    %limit = kvcache.map "delta = max(floor((most - r) / max(W - r, 1)), 1); by = floor((step - 1) / delta); grown = min(r + by, W); due = step - 1 == by * delta; select(mode == 0, W, select(mode == 1 | due, grown, 1048576))" (step = %step, mode = %mode, r = %r, W = %W, most = %most) : (index, index, index, index, index) -> !n
    kvcache.next limit = %limit : !n
  }
  kvcache.phase select (%kv = @kv : !kvv, %limit = limit : !n, %step = step : index, %r = @recent : index) on(step_end) {
    %vote = kvcache.column vote of %kv : (!kvv) -> !sG
    %p = kvcache.column pos of %kv : (!kvv) -> !posG
    %newest = kvcache.reduce max %p over [token] : (!posG) -> !hbG
    // Entries of the prompt always stay: they rank first, and the budget counts them.
    %key, %old = kvcache.map "made = p > newest - t; select(made, vote, inf); select(made, 0, 1)" (p = %p, newest = %newest, t = %step, vote = %vote) : (!posG, !hbG, index, !sG) -> (!sG, !posG)
    %prompt = kvcache.reduce sum %old over [token] : (!posG) -> !hbG
    %n = kvcache.map "prompt + W" (prompt = %prompt, W = %limit) : (!hbG, !n) -> !hbG
    %keep = kvcache.select.topk %key budget %n last %r : (!sG, !hbG, index) -> !keepG
    kvcache.next keep = %keep : !keepG
  }
}
