function out = rtseg_bridge(action, varargin)
% RTSEG_BRIDGE  Frames to rtseg and its answers, over plain ZeroMQ: docs/sources/octave.md. The bridge runs beside it:
%   rtseg source zmq --points nose,tail --animals mouse --fps 30 --stream cage1 --answers tcp://127.0.0.1:5762
%   c = rtseg_bridge('open', 'tcp://127.0.0.1:5761', 'tcp://127.0.0.1:5762', 'cage1');  % c.heads: names of the classes
%   c = rtseg_bridge('send', c, pose);           % animals x points x 3: x, y in px, likelihood; NaN = missing
%   m = rtseg_bridge('receive', c, timeout_ms);  % [] = nothing came; an answer has seq, probs, label, quality
%   rtseg_bridge('close', c);                    % an event has type: trigger, trigger_end, closed ... (docs/wire.md)
% In MATLAB replace the zmq_* functions by those of your ZeroMQ binding; nothing else is Octave's own.
  switch action
    case 'open'
      [frames, answers, stream] = varargin{:};
      out = struct('seq', 0, 'frames', zmq_socket(ZMQ_PUSH), 'answers', zmq_socket(ZMQ_SUB));
      zmq_connect(out.frames, frames); zmq_connect(out.answers, answers);
      zmq_setsockopt(out.answers, ZMQ_SUBSCRIBE, stream);
      told = receive(out.answers, 5000);
      if ~isfield(told, 'heads'), error('rtseg: no bridge with --answers and the stream %s at %s', stream, answers); end
      out.heads = told.heads;
    case 'send'
      [out, pose] = varargin{:};
      zmq_send(out.frames, typecast(uint64(out.seq), 'uint8'), ZMQ_SNDMORE);
      zmq_send(out.frames, typecast(reshape(permute(single(pose), [3 2 1]), 1, []), 'uint8'));  % point by point
      out.seq = out.seq + 1;
    case 'receive', out = receive(varargin{1}.answers, varargin{2});
    case 'close', zmq_close(varargin{1}.frames); zmq_close(varargin{1}.answers); out = [];
  end
end
function message = receive(socket, timeout_ms)
  message = [];
  if ~zmq_poll(socket, timeout_ms), return; end
  parts = {uint8(zmq_recv(socket, 1e6))};  % first the stream's name
  while zmq_getsockopt(socket, ZMQ_RCVMORE), parts{end + 1} = uint8(zmq_recv(socket, 1e6)); end
  if numel(parts) == 2, message = jsondecode(native2unicode(parts{2}, 'UTF-8')); return; end
  message = struct('seq', typecast(parts{2}, 'uint64'), 'quality', typecast(parts{3}, 'uint64'), ...
    'probs', typecast(parts{4}, 'single'), 'label', struct());  % of all heads, one after the other
  for named = strsplit(native2unicode(parts{5}, 'UTF-8'), ',')
    [head, label] = strtok(named{1}, '=');
    message.label.(matlab.lang.makeValidName(head)) = label(2:end);
  end
end
