// RUN: %kvasir-opt %s -split-input-file -verify-diagnostics

// expected-error@+1 {{axis 'head' appears twice}}
func.func private @axis_twice(!kvcache.tensor<head:8, head:8, f32>)

// -----

// expected-error@+1 {{unknown axis kind 'chanel', expected layer, head}}
func.func private @axis_kind(!kvcache.tensor<chanel.post:8, f32>)

// -----

// expected-error@+1 {{expected an element type or a storage term after the axes}}
func.func private @no_element(!kvcache.tensor<head:8>)

// -----

// expected-error@+1 {{expected an element type, 'act', 'affine'}}
func.func private @unknown_term(!kvcache.tensor<head:8, packed>)

// -----

// expected-error@+1 {{expected 'min_T', 'zp_T' or 'none'}}
func.func private @affine_zero(!kvcache.tensor<token:?, affine<2, tile(token:32), max_f16, scale_f16, lsb(token)>>)

// -----

// expected-error@+1 {{axis 'token' is both an axis and the domain of the index set}}
func.func private @domain_is_axis(!kvcache.index<token:? of token>)

// -----

// expected-error@+1 {{expected row axes that end in a token axis, got 'head'}}
func.func private @rows_without_token(!kvcache.cache<append, token:?, head:8, {pos = i32}>)

// -----

// expected-error@+1 {{column 'k' appears twice}}
func.func private @column_twice(!kvcache.cache<append, token:?, {k = f32, k = f32}>)

// -----

// expected-error@+1 {{expected 'append'}}
func.func private @discipline(!kvcache.cache<ring, token:?, {k = f32}>)

// -----

// expected-error@+1 {{expected the extent of the axis after 'of'}}
func.func private @tile_of(!kvcache.tensor<token:?, affine<2, tile(token:4, channel:8 of D), none, scale_f16, lsb(channel)>>)
