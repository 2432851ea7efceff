using Fuse;
using Linux;

namespace UnitTests.FuseTests;

public sealed class InitTests
{
    private const int NewBytes = 64;
    private const int OldBytes = 16;

    // What a Linux 6.18 sends.
    private static readonly FuseInitIn s_offer = new()
    {
        Major = 7,
        Minor = 45,
        MaxReadAhead = 131072,
        Flags = 0x73fffffb,
        Flags2 = 0x5fd,
    };

    [Fact]
    public void Writes_stay_in_the_cache_only_when_that_is_wanted()
    {
        Assert.False(Negotiate(s_offer, NewBytes).Limits!.Flags.HasFlag(FuseInitFlags.WritebackCache));

        FuseInit init = FuseInit.Negotiate(
            s_offer, NewBytes, new FuseSessionOptions { WritebackCache = true }, maxReadBytes: 0, maxPagesLimit: 256);

        Assert.True(init.Limits!.Flags.HasFlag(FuseInitFlags.WritebackCache));
    }

    [Fact]
    public void A_new_kernel_gets_one_mebibyte_requests_and_the_flags_that_we_want()
    {
        FuseInit init = Negotiate(s_offer, NewBytes);

        Assert.Equal(Errno.None, init.Error);
        Assert.Equal(64u, init.AnswerBytes);
        Assert.Equal(0x52648021u, init.Answer.Flags);
        Assert.Equal(0x10u, init.Answer.Flags2);
        Assert.Equal(1u << 20, init.Answer.MaxWrite);
        Assert.Equal(256, init.Answer.MaxPages);
        Assert.Equal(256, init.Answer.MaxBackground);
        Assert.Equal(192, init.Answer.CongestionThreshold);
        Assert.Equal(0, init.Answer.RequestTimeout);
        Assert.Equal(45u, init.Limits!.Minor);
        Assert.Equal(1u << 20, init.Limits.MaxWriteBytes);
        Assert.Equal(1u << 20, init.Limits.MaxReadBytes);
        Assert.True(init.Limits.Flags.HasFlag(FuseInitFlags.DirectIoAllowMmap));
        Assert.False(init.Limits.Flags.HasFlag(FuseInitFlags.AutoInvalidateData));
        Assert.False(init.Limits.Flags.HasFlag(FuseInitFlags.RequestTimeout));
    }

    [Fact]
    public void Nothing_is_answered_that_was_not_offered()
    {
        FuseInitIn offer = s_offer with { Flags = 0x21, Flags2 = 0 };

        FuseInit init = Negotiate(offer, NewBytes);

        Assert.Equal(0x21u, init.Answer.Flags);
        Assert.Equal(0u, init.Answer.Flags2);
    }

    [Fact]
    public void A_kernel_without_max_pages_gets_32_pages()
    {
        FuseInit init = Negotiate(s_offer with { Minor = 27, Flags = 0x21 }, OldBytes);

        Assert.Equal(0, init.Answer.MaxPages);
        Assert.Equal(32u * (uint)Environment.SystemPageSize, init.Answer.MaxWrite);
        Assert.Equal(27u, init.Answer.Minor);
    }

    [Fact]
    public void The_second_flags_word_of_a_short_INIT_does_not_count()
    {
        FuseInit init = Negotiate(s_offer, OldBytes);

        Assert.Equal(0u, init.Answer.Flags2);
        Assert.False(init.Limits!.Flags.HasFlag(FuseInitFlags.InitExt));
    }

    [Theory]
    [InlineData(22u, 24u)]
    [InlineData(23u, 64u)]
    public void Old_minors_get_a_shorter_answer(uint minor, uint bytes) =>
        Assert.Equal(bytes, Negotiate(s_offer with { Minor = minor }, OldBytes).AnswerBytes);

    [Fact]
    public void A_newer_minor_gets_ours() =>
        Assert.Equal(45u, Negotiate(s_offer with { Minor = 99 }, NewBytes).Answer.Minor);

    [Fact]
    public void A_newer_major_gets_our_version_and_is_asked_again()
    {
        FuseInit init = Negotiate(s_offer with { Major = 8, Minor = 0 }, NewBytes);

        Assert.Equal(Errno.None, init.Error);
        Assert.Null(init.Limits);
        Assert.Equal((7u, 45u), (init.Answer.Major, init.Answer.Minor));
    }

    [Theory]
    [InlineData(6u, 45u)]
    [InlineData(7u, 11u)]
    public void Older_versions_are_refused(uint major, uint minor) =>
        Assert.Equal(Errno.EPROTO, Negotiate(s_offer with { Major = major, Minor = minor }, OldBytes).Error);

    [Fact]
    public void The_systems_limit_of_pages_is_respected()
    {
        FuseInit init = FuseInit.Negotiate(s_offer, NewBytes, new FuseSessionOptions(), 0, maxPagesLimit: 16);

        Assert.Equal(16, init.Answer.MaxPages);
        Assert.Equal(16u * (uint)Environment.SystemPageSize, init.Answer.MaxWrite);
    }

    [Fact]
    public void The_mounts_max_read_bounds_reads_only()
    {
        FuseInit init = FuseInit.Negotiate(s_offer, NewBytes, new FuseSessionOptions(), 32768, 256);

        Assert.Equal(32768u, init.Limits!.MaxReadBytes);
        Assert.Equal(1u << 20, init.Limits.MaxWriteBytes);
    }

    [Fact]
    public void The_page_cache_is_kept_honest_in_one_way_only()
    {
        FuseInit init = FuseInit.Negotiate(
            s_offer, NewBytes, new FuseSessionOptions { AutoInvalidateData = true }, 0, 256);

        Assert.True(init.Limits!.Flags.HasFlag(FuseInitFlags.AutoInvalidateData));
        Assert.False(init.Limits.Flags.HasFlag(FuseInitFlags.ExplicitInvalidateData));
    }

    private static FuseInit Negotiate(in FuseInitIn offer, int bytes) =>
        FuseInit.Negotiate(offer, bytes, new FuseSessionOptions(), maxReadBytes: 0, maxPagesLimit: 256);
}
