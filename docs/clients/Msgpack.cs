// As much of msgpack as rtseg's messages need: maps, lists, texts, bytes (float32 values), numbers, booleans, nil.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using Map = System.Collections.Generic.Dictionary<string, object>;

public static class Msgpack
{
    public static byte[] Bytes(float[] values) { var b = new byte[4 * values.Length]; Buffer.BlockCopy(values, 0, b, 0, b.Length); return b; }
    public static byte[] Pack(object value) { var to = new MemoryStream(); Write(to, value); return to.ToArray(); }
    static void Write(MemoryStream to, object value)
    {
        if (value is Map map) { Head(to, 223, BitConverter.GetBytes(map.Count)); foreach (var item in map) { Write(to, item.Key); Write(to, item.Value); } }
        else if (value is string[] list) { Head(to, 221, BitConverter.GetBytes(list.Length)); foreach (var item in list) Write(to, item); }
        else if (value is string text) { var b = Encoding.UTF8.GetBytes(text); Head(to, 219, BitConverter.GetBytes(b.Length)); to.Write(b, 0, b.Length); }
        else if (value is byte[] bytes) { Head(to, 198, BitConverter.GetBytes(bytes.Length)); to.Write(bytes, 0, bytes.Length); }
        else if (value is long whole) Head(to, 211, BitConverter.GetBytes(whole));
        else if (value is double number) Head(to, 203, BitConverter.GetBytes(number));
        else throw new ArgumentException("msgpack: cannot pack " + value);
    }

    // Numbers are big-endian in msgpack.
    static void Head(MemoryStream to, byte tag, byte[] number) { Array.Reverse(number); to.WriteByte(tag); to.Write(number, 0, number.Length); }

    static readonly int[] WithLength = { 196, 197, 198, 217, 218, 219, 220, 221, 222, 223 };
    static readonly int[] Widths = { 1, 2, 4, 1, 2, 4, 2, 4, 2, 4 };

    public static object Unpack(byte[] b, ref int i)
    {
        int t = b[i++];
        if (t < 128) return (long)t;
        if (t >= 224) return (long)t - 256;
        if (t < 144) return ReadMap(b, ref i, t - 128);
        if (t < 160) return ReadList(b, ref i, t - 144);
        if (t < 192) return ReadText(b, ref i, t - 160);
        if (t == 192) return null;
        if (t < 196) return t == 195;
        if (t == 202) return (double)BitConverter.ToSingle(Take(b, ref i, 4), 0);
        if (t == 203) return BitConverter.ToDouble(Take(b, ref i, 8), 0);
        if (t >= 204 && t <= 211) return ReadWhole(b, ref i, 1 << ((t - 204) % 4), t >= 208);
        int kind = Array.IndexOf(WithLength, t), n = (int)ReadWhole(b, ref i, Widths[kind], false);
        if (kind < 3) { var values = new float[n / 4]; Buffer.BlockCopy(b, i, values, 0, n); i += n; return values; }
        return kind < 6 ? ReadText(b, ref i, n) : kind < 8 ? (object)ReadList(b, ref i, n) : ReadMap(b, ref i, n);
    }

    static byte[] Take(byte[] b, ref int i, int n) { i += n; return b.Skip(i - n).Take(n).Reverse().ToArray(); }

    static long ReadWhole(byte[] b, ref int i, int width, bool signed)
    {
        long value = signed && b[i] > 127 ? -1 : 0;
        for (int end = i + width; i < end; i++) value = value << 8 | b[i];
        return value;
    }
    static string ReadText(byte[] b, ref int i, int n) { i += n; return Encoding.UTF8.GetString(b, i - n, n); }
    static List<object> ReadList(byte[] b, ref int i, int n) { var list = new List<object>(); while (n-- > 0) list.Add(Unpack(b, ref i)); return list; }
    static Map ReadMap(byte[] b, ref int i, int n) { var map = new Map(); while (n-- > 0) { var key = (string)Unpack(b, ref i); map[key] = Unpack(b, ref i); } return map; }
}
