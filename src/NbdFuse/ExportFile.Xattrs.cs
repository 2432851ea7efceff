using System.Globalization;
using System.Text;
using Fuse;
using Linux;

namespace NbdFuse;

/// <content>Extended attributes: what the server said about the export. They are only to be read.</content>
internal sealed unsafe partial class ExportFile
{
    private (byte[] Name, byte[] Value)[]? _extendedAttributes;

    internal void GetXattr(FuseRequest request, ReadOnlySpan<byte> name, uint size)
    {
        foreach ((byte[] candidate, byte[] value) in ExtendedAttributes())
        {
            if (name.SequenceEqual(candidate))
            {
                ReplyXattr(request, value, size);
                return;
            }
        }

        // "system." is where access control lists would be: not supported, rather than not set.
        request.ReplyError(name.StartsWith("system."u8) ? Errno.EOPNOTSUPP : Errno.ENODATA);
    }

    internal void ListXattr(FuseRequest request, uint size)
    {
        using MemoryStream list = new();
        foreach ((byte[] name, _) in ExtendedAttributes())
        {
            list.Write(name);
            list.WriteByte(0);
        }

        ReplyXattr(request, list.ToArray(), size);
    }

    internal static void ChangeXattr(FuseRequest request, ReadOnlySpan<byte> name) =>
        request.ReplyError(name.StartsWith("user.nbd."u8) ? Errno.EPERM : Errno.EOPNOTSUPP);

    private static void ReplyXattr(FuseRequest request, byte[] value, uint size)
    {
        if (size == 0)
        {
            request.ReplyXattrSize((uint)value.Length);
        }
        else if (size < value.Length)
        {
            request.ReplyError(Errno.ERANGE);
        }
        else
        {
            request.ReplyBytes(value);
        }
    }

    private (byte[] Name, byte[] Value)[] ExtendedAttributes()
    {
        // Two threads may both make it: they make the same.
        return _extendedAttributes ??=
        [
            // Without user name and parameters that are secrets: as the source of the mount.
            Attribute("user.nbd.uri", _pool.Endpoint.FormatUri(_pool.Export.Name, _pool.IsEncrypted)),
            Attribute("user.nbd.export", _pool.Export.Name),
            Attribute("user.nbd.flags", _pool.Export.Flags.ToString()),
            Attribute("user.nbd.block-size", string.Create(
                CultureInfo.InvariantCulture,
                $"{_pool.Export.MinimumBlockBytes}/{_pool.Export.PreferredBlockBytes}/{_pool.Export.MaximumPayloadBytes}")),
        ];

        static (byte[] Name, byte[] Value) Attribute(string name, string value) =>
            (Encoding.UTF8.GetBytes(name), Encoding.UTF8.GetBytes(value));
    }
}
