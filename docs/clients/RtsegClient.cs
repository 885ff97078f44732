// Frames to rtseg's daemon and its answers, over ZeroMQ and msgpack (docs/sources/csharp.md). Needs the package NetMQ.
using System;
using System.Collections.Generic;
using NetMQ;
using NetMQ.Sockets;
using Map = System.Collections.Generic.Dictionary<string, object>;

public sealed class RtsegClient : IDisposable
{
    readonly DealerSocket frames;
    readonly SubscriberSocket answers = new SubscriberSocket();
    readonly string stream;
    long seq;

    public RtsegClient(string address, string stream, string[] animals, string[] keypoints, double fps)
    {
        this.stream = stream;
        frames = new DealerSocket(">" + address);
        var skeleton = new Map { { "animals", animals }, { "keypoints", keypoints } };
        frames.SendFrame(Msgpack.Pack(new Map {
            { "v", 1L }, { "type", "hello" }, { "stream", stream }, { "skeleton", skeleton }, { "fps", fps } }));
        var accepted = Receive(frames, 5000) ?? throw new TimeoutException("rtseg: no daemon answers at " + address);
        if ((string)accepted["type"] != "accepted") throw new InvalidOperationException("rtseg: " + accepted["reason"]);
        answers.Connect((string)accepted["predictions"]);
        answers.Subscribe(stream);
        if (Receive(answers, 5000) == null) throw new TimeoutException("rtseg: the subscription was not confirmed");
    }

    // points: x, y of each point, animal by animal, in px, NaN = missing; likelihood: one of each point, 0 to 1.
    public void Send(float[] points, float[] likelihood)
    {
        frames.TrySendFrame(Msgpack.Pack(new Map {
            { "v", 1L }, { "stream", stream }, { "seq", seq++ }, { "t_source_ns", 0L },  // or your camera's own time
            { "kp", Msgpack.Bytes(points) }, { "conf", Msgpack.Bytes(likelihood) } }));
        var complaint = Receive(frames, 0);
        if (complaint != null && complaint.ContainsKey("reason")) Console.Error.WriteLine("rtseg: " + complaint["reason"]);
    }

    // The next answer (label, probs as float[], seq ...) or event (type ...); null where none comes in time.
    public Map Receive(int timeoutMs) { return Receive(answers, timeoutMs); }

    static Map Receive(NetMQSocket socket, int timeoutMs)
    {
        var parts = new List<byte[]>();  // of an answer the topic, then the message
        if (!socket.TryReceiveMultipartBytes(TimeSpan.FromMilliseconds(timeoutMs), ref parts)) return null;
        int at = 0;
        return (Map)Msgpack.Unpack(parts[parts.Count - 1], ref at);
    }

    public void Dispose()
    {
        frames.TrySendFrame(Msgpack.Pack(new Map { { "v", 1L }, { "type", "bye" }, { "stream", stream } }));
        Receive(frames, 1000);
        frames.Dispose();
        answers.Dispose();
    }
}
