// The uncompressed cache: every key and value in the model's own element type. What every method is compared with.
// All phases are the defaults: append the new rows, attend, keep everything.
kvcache.method @dense info {family = "dense", paper = "", title = "uncompressed cache"} {
  kvcache.state @kv : !kv
}
