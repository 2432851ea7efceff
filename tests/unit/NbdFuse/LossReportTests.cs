using global::Nbd;
using Linux;
using NbdFuse;

namespace UnitTests.NbdFuseTests;

public sealed class LossReportTests
{
    private readonly FakeTime _time = new();
    private readonly List<string> _warned = [];
    private readonly LossReport _report;

    public LossReportTests()
    {
        _report = new(_warned.Add, _time);
    }

    /// <summary>A server that is killed closes a connection, and resets one whose bytes it had not read.</summary>
    [Fact]
    public void What_is_lost_together_is_told_once_whatever_it_looks_like()
    {
        _report.Tell(new NbdException("closed", Errno.EIO));
        _time.Advance(TimeSpan.FromMilliseconds(999));
        _report.Tell(new NbdException("reset", Errno.EIO));

        Assert.Equal(["closed; requests that need the connection fail with EIO"], _warned);
    }

    [Fact]
    public void What_is_lost_later_is_told_if_it_is_something_else()
    {
        _report.Tell(new NbdException("closed", Errno.EIO));
        _time.Advance(TimeSpan.FromSeconds(1));
        _report.Tell(new NbdException("closed", Errno.EIO));
        _report.Tell(new NbdException("reset", Errno.EIO));

        Assert.Equal(
            ["closed; requests that need the connection fail with EIO", "reset; requests that need the connection fail with EIO"],
            _warned);
    }
}
