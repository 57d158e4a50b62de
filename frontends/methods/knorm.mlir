// KNorm, arXiv 2406.11430. Entries whose keys have the smallest L2 norm stay; no query is read.
// Budget: that many entries per KV head. `prune_after` leaves shorter prompts alone, `skip_layers` whole layers.
// Deviation: nothing is cut by default below a length or in the first layers (the paper: 2048, layers 0 and 1).
kvcache.method @knorm info {family = "score", paper = "arXiv 2406.11430", title = "KNorm"} {
  kvcache.param @prune_after = 0 : index
  kvcache.param @skip_layers = []
  kvcache.param @budget = 1024 : index
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) layers(except(@skip_layers)) on(prompt_end) {
    %k = kvcache.column k of %kv : (!kv) -> !kT
    %norm = kvcache.score.norm %k over [channel.post] : (!kT) -> !s
    %s = kvcache.map %norm with arith.negf : (!s) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase allocate (%B = budget : index, %T = length : index, %least = @prune_after : index) layers(except(@skip_layers)) {
    %short = arith.cmpi ult, %T, %least : index
    %n = arith.select %short, %T, %B : index
    kvcache.next budget = %n : index
  }
}
