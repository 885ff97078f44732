function out = rtseg_msgpack(value)
% RTSEG_MSGPACK  Packs what is no uint8 row (structs, cells, texts, numbers; uint8 rows inside are bytes); unpacks one.
  if isa(value, 'uint8'), out = unpack(value, 1); else, out = pack(value); end
end
function b = pack(v)
  if isstruct(v)
    keys = fieldnames(v)'; b = [uint8(223) swapped(uint32(numel(keys)))];
    for key = keys, b = [b pack(key{1}) pack(v.(key{1}))]; end
  elseif iscell(v), b = [uint8(221) swapped(uint32(numel(v)))]; for i = 1:numel(v), b = [b pack(v{i})]; end
  elseif ischar(v), text = unicode2native(v, 'UTF-8'); b = [uint8(219) swapped(uint32(numel(text))) text];
  elseif isa(v, 'uint8'), b = [uint8(198) swapped(uint32(numel(v))) v];
  elseif isinteger(v), b = [uint8(207) swapped(uint64(v))];
  else, b = [uint8(203) swapped(double(v))]; end
end
function [v, i] = unpack(b, i)
  t = double(b(i)); i = i + 1;
  if t < 128, v = t; elseif t >= 224, v = t - 256; elseif t == 192, v = []; elseif t == 194 || t == 195, v = t == 195;
  elseif t >= 202 && t <= 211
    types = {'single', 'double', 'uint8', 'uint16', 'uint32', 'uint64', 'int8', 'int16', 'int32', 'int64'};
    [v, i] = number(b, i, types{t - 201});
  else
    if t < 144, kind = 'map'; n = t - 128; elseif t < 160, kind = 'array'; n = t - 144;
    elseif t < 192, kind = 'text'; n = t - 160;
    else
      kinds = {'bytes', 'bytes', 'bytes', 'text', 'text', 'text', 'array', 'array', 'map', 'map'};
      types = {'uint8', 'uint16', 'uint32', 'uint8', 'uint16', 'uint32', 'uint16', 'uint32', 'uint16', 'uint32'};
      at = find(t == [196 197 198 217 218 219 220 221 222 223]); kind = kinds{at};
      [n, i] = number(b, i, types{at}); n = double(n);
    end
    switch kind
      case 'text', v = native2unicode(b(i:i + n - 1), 'UTF-8'); i = i + n;
      case 'bytes', v = typecast(b(i:i + n - 1), 'single'); i = i + n;  % rtseg's are float32
      case 'array', v = cell(1, n); for k = 1:n, [v{k}, i] = unpack(b, i); end
      case 'map', v = struct();
        for k = 1:n, [key, i] = unpack(b, i); [v.(matlab.lang.makeValidName(key)), i] = unpack(b, i); end
    end
  end
end
function b = swapped(number), b = fliplr(typecast(number, 'uint8')); end  % big-endian, as msgpack has it
function [x, i] = number(b, i, type)
  width = numel(typecast(cast(0, type), 'uint8')); x = typecast(fliplr(b(i:i + width - 1)), type); i = i + width;
end
