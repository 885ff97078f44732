"""What compiled code needs: arrays found by address, cache keys, libzmq's functions.

array_tables  Arrays that compiled code finds by their addresses
cache_stamps  A number for source files as they are
libzmq        libzmq's own functions, for compiled code that receives many messages in one call
"""
