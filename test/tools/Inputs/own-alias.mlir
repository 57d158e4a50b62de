// An alias of the prelude that a file defines itself is the file's.
!s = !kvcache.tensor<token:?, f32>
kvcache.method @own {
  kvcache.state @kv : !kv
  kvcache.phase select (%kv = @kv : !kv, %B = budget : index) {
    %i = kvcache.iota token of %kv : (!kv) -> !pT
    %s = kvcache.map "i" (i = %i) : (!pT) -> !s
    %keep = kvcache.select.topk %s budget %B : (!s, index) -> !kvcache.index<token.keep:? of token>
    kvcache.next keep = %keep : !kvcache.index<token.keep:? of token>
  }
}
