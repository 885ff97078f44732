// Plays float32 poses to a daemon, frame by frame, and writes the probabilities of its answers: see test_clients.py.
using System;
using System.IO;
using System.Linq;
using Map = System.Collections.Generic.Dictionary<string, object>;

public static class Play
{
    public static void Main(string[] arguments)
    {
        string[] animals = arguments[2].Split(','), keypoints = arguments[3].Split(',');
        int points = animals.Length * keypoints.Length;
        using (var client = new RtsegClient(arguments[0], arguments[1], animals, keypoints, 30.0))
        using (var input = new BinaryReader(File.OpenRead(arguments[4])))
        using (var output = new BinaryWriter(File.Create(arguments[5])))
        {
            long n = input.BaseStream.Length / (12 * points);
            for (long t = 0; t < n; t++)
            {
                var xy = Enumerable.Range(0, 2 * points).Select(_ => input.ReadSingle()).ToArray();
                client.Send(xy, Enumerable.Range(0, points).Select(_ => input.ReadSingle()).ToArray());
                Map answer;
                do answer = client.Receive(60000); while (answer.ContainsKey("type"));
                foreach (var probs in ((Map)answer["probs"]).Values) foreach (var p in (float[])probs) output.Write(p);
            }
        }
    }
}
