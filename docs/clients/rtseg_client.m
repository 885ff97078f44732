function out = rtseg_client(action, varargin)
% RTSEG_CLIENT  Send frames to rtseg's daemon and receive its answers, over ZeroMQ and msgpack (docs/sources/octave.md).
%   c = rtseg_client('open', 'tcp://127.0.0.1:5757', 'cage1', {'mouse'}, {'nose', 'tail'}, 30);
%   c = rtseg_client('send', c, kp, conf);       % kp: animals x keypoints x 2 px, NaN = missing; conf: without x 2
%   m = rtseg_client('receive', c, timeout_ms);  % [] = nothing came; an answer has m.label, m.probs; an event m.type
%   rtseg_client('close', c);
% In MATLAB replace the zmq_* functions by those of your ZeroMQ binding; nothing else is Octave's own.
  switch action
    case 'open'
      [address, stream, animals, keypoints, fps] = varargin{:};
      out = struct('stream', stream, 'seq', 0, 'frames', zmq_socket(ZMQ_DEALER), 'answers', zmq_socket(ZMQ_SUB));
      zmq_connect(out.frames, address);
      skeleton = struct('animals', {animals(:)'}, 'keypoints', {keypoints(:)'});
      hello = struct('v', int32(1), 'type', 'hello', 'stream', stream, 'skeleton', skeleton, 'fps', fps);
      zmq_send(out.frames, rtseg_msgpack(hello));
      accepted = receive(out.frames, 5000);
      if isempty(accepted), error('rtseg: no daemon answers at %s', address); end
      if ~strcmp(accepted.type, 'accepted'), error('rtseg: refused: %s', accepted.reason); end
      zmq_connect(out.answers, accepted.predictions); zmq_setsockopt(out.answers, ZMQ_SUBSCRIBE, stream);
      if isempty(receive(out.answers, 5000)), error('rtseg: the subscription was not confirmed'); end
    case 'send'
      [out, kp, conf] = varargin{:};
      kp = typecast(reshape(permute(single(kp), [3 2 1]), 1, []), 'uint8');  % float32: x, y, point by point
      conf = typecast(reshape(single(conf)', 1, []), 'uint8');
      t_ns = int64(0);  % or your camera's own time
      zmq_send(out.frames, rtseg_msgpack(struct('v', int32(1), 'stream', out.stream, 'seq', int64(out.seq), ...
        't_source_ns', t_ns, 'kp', kp, 'conf', conf)));
      out.seq = out.seq + 1;
      complaint = receive(out.frames, 0);
      if isfield(complaint, 'reason'), warning('rtseg: %s', complaint.reason); end
    case 'receive', out = receive(varargin{1}.answers, varargin{2});
    case 'close'
      c = varargin{1};
      zmq_send(c.frames, rtseg_msgpack(struct('v', int32(1), 'type', 'bye', 'stream', c.stream)));
      receive(c.frames, 1000); zmq_close(c.frames); zmq_close(c.answers); out = [];
  end
end
function message = receive(socket, timeout_ms)
  message = [];
  if zmq_poll(socket, timeout_ms)
    data = zmq_recv(socket, 1e6);  % of an answer the topic, then the message
    while zmq_getsockopt(socket, ZMQ_RCVMORE), data = zmq_recv(socket, 1e6); end
    message = rtseg_msgpack(uint8(data));
  end
end
