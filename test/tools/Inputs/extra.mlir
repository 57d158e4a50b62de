// Votes by norm, with a parameter and ops that a fault in the op pool does not need.
!all = !kvcache.index<head:Hkv, token.keep:? of token>
kvcache.method @extra {
  kvcache.param @unused = 3 : index
  kvcache.param @budget = 64 : index
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) on(prompt_end) {
    %k = kvcache.column k of %kv : (!kv) -> !kT
    %dead = kvcache.column v of %kv : (!kv) -> !vT
    %norm = kvcache.score.norm %k over [channel.post] : (!kT) -> !s
    %three = arith.constant 3 : index
    %pooled = kvcache.pool max %norm over [token] size %three : (!s, index) -> !s
    kvcache.next score = %pooled : !s
  }
  kvcache.phase select (%s = score : !s, %B = budget : index) {
    %mean = kvcache.reduce mean %s over [token] : (!s) -> !h
    %keep = kvcache.select.topk %s budget %B : (!s, index) -> !all
    kvcache.next keep = %keep : !all
  }
}
