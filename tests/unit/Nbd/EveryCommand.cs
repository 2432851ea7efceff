using global::Nbd;

namespace UnitTests.Nbd;

/// <summary>
/// Each way of a command through <see cref="NbdClient"/>, for an export with blocks of 512 bytes, at least 3 MiB long, with the
/// meta context base:allocation.
/// </summary>
internal static class EveryCommand
{
    private const int MiB = 1024 * 1024;

    private static readonly Dictionary<string, Func<NbdClient, ValueTask>> s_commands = new()
    {
        ["READ"] = client => client.ReadAsync(0, new byte[512], Token),
        ["READ in pieces"] = client => client.ReadAsync(0, new byte[3 * MiB], Token),
        ["READ of a part of a block"] = client => client.ReadAsync(1, new byte[5], Token),
        ["WRITE"] = client => client.WriteAsync(0, new byte[512], cancellationToken: Token),
        ["WRITE in pieces"] = client => client.WriteAsync(0, new byte[3 * MiB], cancellationToken: Token),
        ["WRITE of a part of a block"] = client => client.WriteAsync(1, new byte[5], cancellationToken: Token),
        ["FLUSH"] = client => client.FlushAsync(Token),
        ["TRIM"] = client => client.TrimAsync(0, 512, cancellationToken: Token),
        ["CACHE"] = client => client.CacheAsync(0, 512, Token),
        ["WRITE_ZEROES"] = client => client.WriteZeroesAsync(0, 512, cancellationToken: Token),
        ["WRITE_ZEROES of parts of blocks"] = client => client.WriteZeroesAsync(1, 5, cancellationToken: Token),
        ["BLOCK_STATUS"] = async client => await client.GetExtentsAsync(0, 512, cancellationToken: Token).FirstAsync(Token),
    };

    public static TheoryData<string> Names => [.. s_commands.Keys];

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    internal static ValueTask Send(string command, NbdClient client) => s_commands[command](client);
}
