// Plays float32 poses to a bridge, frame by frame, and writes the probabilities of its answers: see test_clients.py.
using System;
using System.IO;
using System.Linq;

public static class Play
{
    public static void Main(string[] arguments)
    {
        int values = 3 * arguments[3].Split(',').Length * arguments[4].Split(',').Length;
        using (var client = new RtsegBridge(arguments[0], arguments[1], arguments[2]))
        using (var input = new BinaryReader(File.OpenRead(arguments[5])))
        using (var output = new BinaryWriter(File.Create(arguments[6])))
        {
            if (!client.Heads.Contains("\"attack\"")) throw new InvalidDataException(client.Heads);
            long n = input.BaseStream.Length / (4 * values);
            for (long t = 0; t < n; t++)
            {
                if (!client.Send(Enumerable.Range(0, values).Select(_ => input.ReadSingle()).ToArray()))
                    throw new IOException("the bridge takes nothing");
                RtsegAnswer answer;
                do answer = client.Receive(60000); while (answer.Label == null);
                if (answer.Seq != t || !client.Heads.Contains(answer.Label["task1"])) throw new InvalidDataException();
                foreach (var p in answer.Probs) output.Write(p);
            }
        }
    }
}
