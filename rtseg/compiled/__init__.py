"""What compiled code needs besides numba: arrays by address, keys of its cache, libzmq's functions.

array_tables  Arrays that kernels find by their addresses: `ArrayTable`, `field_indices`, and a reader for every type
cache_folder  Where numba keeps what it compiles, where it finds no place itself: `ensure_cache_folder`
cache_stamps  A number for source files, for the keys of numba's cache: `source_stamp`
libzmq        Calls of libzmq from compiled code: `addresses`, `call`
"""
