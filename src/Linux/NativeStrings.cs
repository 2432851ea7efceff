using System.Runtime.InteropServices;
using System.Text;

namespace Linux;

/// <summary>A NULL-terminated array of C strings, as execve(2) takes it.</summary>
internal sealed unsafe class NativeStrings : IDisposable
{
    private readonly byte** _strings;
    private readonly int _count;

    internal NativeStrings(IReadOnlyList<string> strings)
    {
        _count = strings.Count;
        _strings = (byte**)NativeMemory.AllocZeroed((nuint)(_count + 1), (nuint)sizeof(byte*));
        for (int i = 0; i < _count; i++)
        {
            _strings[i] = (byte*)Marshal.StringToCoTaskMemUTF8(strings[i]);
        }
    }

    internal byte** Array => _strings;

    /// <summary>The bytes of a path or argument with their terminating NUL.</summary>
    internal static byte[] Terminated(string text) => Encoding.UTF8.GetBytes(text + "\0");

    public void Dispose()
    {
        for (int i = 0; i < _count; i++)
        {
            Marshal.FreeCoTaskMem((nint)_strings[i]);
        }

        NativeMemory.Free(_strings);
    }
}
