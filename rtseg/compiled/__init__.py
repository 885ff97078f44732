"""What compiled code needs besides numba: arrays by address, keys of its cache, sixteen numbers at once, libzmq.

ahead         Kernels compiled before they are called, in other processes: `compile_missing`, `compile_elsewhere`
array_tables  Arrays that kernels find by their addresses: `ArrayTable`, `field_indices`, and a reader for every type
cache_folder  Where numba keeps what it compiles, where it finds no place itself: `ensure_cache_folder`
cache_stamps  A number for source files, for the keys of numba's cache: `source_stamp`
lanes         Sixteen floats side by side as one value in compiled code: `load`, `store`, `muladd`, `sigmoid`, ...
libzmq        Calls of libzmq from compiled code: `addresses`, `call`
products      Matrix products with one order of every sum: `product`
"""
