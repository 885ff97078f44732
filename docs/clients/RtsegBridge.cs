// Frames to rtseg and its answers, over plain ZeroMQ (docs/sources/csharp.md). Needs the package NetMQ, and beside it:
// rtseg source zmq --points nose,tail --animals mouse --fps 30 --stream cage1 --answers tcp://127.0.0.1:5762
using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using NetMQ;
using NetMQ.Sockets;

public sealed class RtsegAnswer
{
    public long Seq, Quality;                  // the frame's number; flags: docs/wire.md
    public float[] Probs;                      // of all heads, one after the other
    public Dictionary<string, string> Label;   // by head; null: this is an event
    public string Event;                       // JSON: type is trigger, trigger_end, closed ... (docs/wire.md)
}

public sealed class RtsegBridge : IDisposable
{
    readonly PushSocket frames;
    readonly SubscriberSocket answers = new SubscriberSocket();
    long seq;
    public readonly string Heads;  // JSON: the names of the classes of each head

    public RtsegBridge(string framesAddress, string answersAddress, string stream)
    {
        frames = new PushSocket(">" + framesAddress);
        answers.Connect(answersAddress);
        answers.Subscribe(stream);
        var told = Receive(5000) ?? throw new TimeoutException("rtseg: no bridge with --answers at " + answersAddress);
        Heads = told.Event;
    }

    // values: x, y (px) and likelihood of each point, animal by animal, NaN = missing. False: the bridge takes none.
    public bool Send(float[] values)
    {
        var bytes = new byte[4 * values.Length];
        Buffer.BlockCopy(values, 0, bytes, 0, bytes.Length);
        return frames.TrySendMultipartBytes(TimeSpan.Zero, BitConverter.GetBytes(seq++), bytes);
    }

    // The next answer or event; null where none comes in time.
    public RtsegAnswer Receive(int timeoutMs)
    {
        var parts = new List<byte[]>();  // first the stream's name
        if (!answers.TryReceiveMultipartBytes(TimeSpan.FromMilliseconds(timeoutMs), ref parts)) return null;
        if (parts.Count == 2) return new RtsegAnswer { Event = Encoding.UTF8.GetString(parts[1]) };
        var probs = new float[parts[3].Length / 4];
        Buffer.BlockCopy(parts[3], 0, probs, 0, parts[3].Length);
        var labels = Encoding.UTF8.GetString(parts[4]).Split(',').Select(named => named.Split(new[] { '=' }, 2));
        return new RtsegAnswer {
            Seq = BitConverter.ToInt64(parts[1], 0), Quality = BitConverter.ToInt64(parts[2], 0), Probs = probs,
            Label = labels.ToDictionary(named => named[0], named => named[1]) };
    }

    public void Dispose() { frames.Dispose(); answers.Dispose(); }
}
