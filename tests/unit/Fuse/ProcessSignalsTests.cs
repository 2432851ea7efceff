using System.Diagnostics;
using Fuse;

namespace UnitTests.FuseTests;

public sealed class ProcessSignalsTests
{
    [Theory]
    [InlineData("12 (dd) D 1 2 3 4 5 4194304 0", false)]
    [InlineData("12 (dd) D 1 2 3 4 5 4194308 0", true)]
    [InlineData("12 (a) R 1 2 3 4 5 4 (b) D 1 2 3 4 5 4194304 0", false)]
    [InlineData("12 (dd) D", false)]
    public void A_thread_is_exiting_when_its_flags_say_so(string stat, bool expected) =>
        Assert.Equal(expected, ProcessSignals.IsExiting(stat));

    [Theory]
    [InlineData("0000000000000000", "0000000000000002", "0000000000000000", "0000000000000000", true)]
    [InlineData("0000000000000100", "0000000000000000", "0000000000000000", "0000000000000000", true)]
    [InlineData("0000000000000000", "0000000000000002", "0000000000000002", "0000000000000000", false)]
    [InlineData("0000000000000000", "0000000000004000", "0000000000000000", "0000000000004000", false)]
    [InlineData("0000000000000000", "0000000000402000", "0000000000000000", "0000000000000000", false)]
    public void Only_pending_signals_that_end_a_program_count(
        string thread, string process, string blocked, string ignored, bool expected) =>
        Assert.Equal(
            expected,
            ProcessSignals.HasEndingSignal(
                $"Name:\tdd\nSigPnd:\t{thread}\nShdPnd:\t{process}\nSigBlk:\t{blocked}\nSigIgn:\t{ignored}\n"));

    [Fact]
    public void This_process_is_not_ending_and_one_that_is_gone_is()
    {
        using Process gone = Process.Start("true");
        gone.WaitForExit();

        Assert.False(ProcessSignals.IsEnding((uint)Environment.ProcessId));
        Assert.True(ProcessSignals.IsEnding((uint)gone.Id));
    }
}
