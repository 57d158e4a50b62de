// H2O in fixed slots, arXiv 2306.14048, as the authors' offloading code holds it: nothing moves but one entry a step.
// A step drops the lightest of the entries that were not among the newest budget / 2 before it: the entry that has just
// grown old is safe for that step. Score, budget and the cut after the prompt are those of h2o.
// Deviation: entries stay in order of arrival; the set is that of the slots, whose order attention does not see.
!kva = !kvcache.cache<append, head:Hkv, group:Gs, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, acc = f32}>
kvcache.method @"h2o-ring" info {family = "score", paper = "arXiv 2306.14048", title = "H2O in slots"} {
  kvcache.param @base = "h2o" : method
  kvcache.state @kv : !kva
  kvcache.phase select (%kv = @kv : !kva, %B = budget : index) on(prompt_end) {
    %two = arith.constant 2 : index
    %recent = arith.divui %B, %two : index
    %s = kvcache.column acc of %kv : (!kva) -> !sG
    %keep = kvcache.select.topk %s budget %B last %recent : (!sG, index, index) -> !keepG
    kvcache.next keep = %keep : !keepG
  }
  kvcache.phase select (%kv = @kv : !kva, %B = budget : index) on(step_end) {
    %one = arith.constant 1 : index
    %two = arith.constant 2 : index
    %recent = arith.divui %B, %two : index
    %safe = arith.addi %recent, %one : index
    %s = kvcache.column acc of %kv : (!kva) -> !sG
    %keep = kvcache.select.topk %s budget %B last %safe : (!sG, index, index) -> !keepG
    kvcache.next keep = %keep : !keepG
  }
}
