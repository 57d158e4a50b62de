!q = !kvcache.tensor<head:Hkv, group:G, query:?, channel.post:D, act>
!qpre = !kvcache.tensor<head:Hkv, group:G, query:?, channel.pre:D, act>
!qw = !kvcache.tensor<head:Hkv, group:G, query.win:?, channel.post:D, act>
!k = !kvcache.tensor<head:Hkv, query:?, channel.post:D, act>
!kpre = !kvcache.tensor<head:Hkv, query:?, channel.pre:D, act>
!v = !kvcache.tensor<head:Hkv, query:?, channel.v:D, act>
!p = !kvcache.tensor<query:?, i32>
!o = !kvcache.tensor<head:Hkv, group:G, query:?, channel.v:D, act>
!kT = !kvcache.tensor<head:Hkv, token:?, channel.post:D, act>
!vT = !kvcache.tensor<head:Hkv, token:?, channel.v:D, act>
!pT = !kvcache.tensor<token:?, i32>
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!sg = !kvcache.tensor<head:Hkv, group:G, token:?, f32>
!h = !kvcache.tensor<head:Hkv, f32>
!hb = !kvcache.tensor<head:Hkv, i32>
!keep = !kvcache.index<head:Hkv, token.keep:? of token>
!drop = !kvcache.index<head:Hkv, token.ev:? of token>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32}>
!kTG = !kvcache.tensor<head:Hkv, group:Gs, token:?, channel.post:D, act>
!vTG = !kvcache.tensor<head:Hkv, group:Gs, token:?, channel.v:D, act>
!sG = !kvcache.tensor<head:Hkv, group:Gs, token:?, f32>
!hG = !kvcache.tensor<head:Hkv, group:Gs, f32>
!hbG = !kvcache.tensor<head:Hkv, group:Gs, i32>
!keepG = !kvcache.index<head:Hkv, group:Gs, token.keep:? of token>
!dropG = !kvcache.index<head:Hkv, group:Gs, token.ev:? of token>
!kvG = !kvcache.cache<append, head:Hkv, group:Gs, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32}>
