// What RtsegClient.cs and RtsegBridge.cs use of NetMQ, under its names and signatures, over the system's libzmq: NetMQ itself cannot be
// fetched where these tests run, and mono can call libzmq.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Text;

namespace NetMQ
{
    public class NetMQSocket : IDisposable
    {
        const string Lib = "libzmq.so.5";
        [DllImport(Lib)] static extern IntPtr zmq_ctx_new();
        [DllImport(Lib)] static extern IntPtr zmq_socket(IntPtr context, int type);
        [DllImport(Lib)] static extern int zmq_connect(IntPtr socket, string address);
        [DllImport(Lib)] static extern int zmq_close(IntPtr socket);
        [DllImport(Lib)] static extern int zmq_setsockopt(IntPtr socket, int option, byte[] value, UIntPtr size);
        [DllImport(Lib)] static extern int zmq_getsockopt(IntPtr socket, int option, byte[] value, ref UIntPtr size);
        [DllImport(Lib)] static extern int zmq_send(IntPtr socket, byte[] data, UIntPtr size, int flags);
        [DllImport(Lib)] static extern int zmq_recv(IntPtr socket, byte[] data, UIntPtr size, int flags);

        static readonly IntPtr context = zmq_ctx_new();
        readonly IntPtr handle;

        protected NetMQSocket(int type) { handle = zmq_socket(context, type); }

        public void Connect(string address)
        {
            if (zmq_connect(handle, address) != 0) throw new ArgumentException(address);
        }

        protected void Set(int option, byte[] value) { zmq_setsockopt(handle, option, value, (UIntPtr)value.Length); }

        public bool Send(byte[] data, int flags) { return zmq_send(handle, data, (UIntPtr)data.Length, flags) >= 0; }

        public byte[] Receive(int timeoutMs)
        {
            Set(27, BitConverter.GetBytes(timeoutMs));  // ZMQ_RCVTIMEO
            var buffer = new byte[1 << 20];
            int n = zmq_recv(handle, buffer, (UIntPtr)buffer.Length, 0);
            if (n < 0) return null;
            Array.Resize(ref buffer, n);
            return buffer;
        }

        public bool HasMore()
        {
            var value = new byte[4];
            var size = (UIntPtr)4;
            zmq_getsockopt(handle, 13, value, ref size);  // ZMQ_RCVMORE
            return value[0] != 0;
        }

        public void Dispose() { Set(17, new byte[4]); zmq_close(handle); }  // ZMQ_LINGER
    }

    public static class Extensions
    {
        public static void SendFrame(this NetMQSocket socket, byte[] data) { socket.Send(data, 0); }

        public static bool TrySendFrame(this NetMQSocket socket, byte[] data) { return socket.Send(data, 1); }

        public static bool TrySendMultipartBytes(this NetMQSocket socket, TimeSpan timeout, params byte[][] frames)
        {
            for (int i = 0; i < frames.Length; i++)
                if (!socket.Send(frames[i], i < frames.Length - 1 ? 3 : 1)) return false;  // ZMQ_DONTWAIT, ZMQ_SNDMORE
            return true;
        }

        public static bool TryReceiveMultipartBytes(
            this NetMQSocket socket, TimeSpan timeout, ref List<byte[]> frames, int expectedFrameCount = 4)
        {
            frames.Clear();
            var part = socket.Receive((int)timeout.TotalMilliseconds);
            if (part == null) return false;
            frames.Add(part);
            while (socket.HasMore()) frames.Add(socket.Receive(-1));
            return true;
        }
    }
}

namespace NetMQ.Sockets
{
    public class DealerSocket : NetMQSocket
    {
        public DealerSocket(string connection) : base(5) { Connect(connection.TrimStart('>')); }
    }

    public class PushSocket : NetMQSocket
    {
        public PushSocket(string connection) : base(8) { Connect(connection.TrimStart('>')); }
    }

    public class SubscriberSocket : NetMQSocket
    {
        public SubscriberSocket() : base(2) { }

        public void Subscribe(string topic) { Set(6, Encoding.UTF8.GetBytes(topic)); }
    }
}
