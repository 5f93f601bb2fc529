-- The demo's HR database: organisation units in a tree (fparentid 0: the top), and people. The
-- identity card number is there, as in life, and no mapping reads it.

CREATE TABLE t_org_org (
    fid                      bigint PRIMARY KEY,
    fnumber                  varchar(40)  NOT NULL UNIQUE,
    fname                    varchar(200) NOT NULL DEFAULT ' ',
    fparentid                bigint       NOT NULL DEFAULT 0, -- t_org_org.fid
    faccountingtype          char(1)      NOT NULL DEFAULT ' ', -- 1 legal entity, 2 profit centre
    funiformsocialcreditcode varchar(18)  NOT NULL DEFAULT ' ',
    fstatus                  char(1)      NOT NULL DEFAULT 'C',
    fenable                  char(1)      NOT NULL DEFAULT '1'
);
COMMENT ON TABLE t_org_org IS 'Organisation units';

CREATE TABLE t_sec_user (
    fid         bigint PRIMARY KEY,
    fnumber     varchar(20)  NOT NULL UNIQUE,                 -- personnel number
    ftruename   varchar(100) NOT NULL DEFAULT ' ',
    forgid      bigint       NOT NULL DEFAULT 0,              -- t_org_org.fid
    fgender     char(1)      NOT NULL DEFAULT ' ',            -- 1 male, 2 female
    fphone      varchar(40)  NOT NULL DEFAULT ' ',
    femail      varchar(200) NOT NULL DEFAULT ' ',
    fidcard     varchar(30)  NOT NULL DEFAULT ' ',            -- personal; never mapped
    fbirthday   date,
    fhiredate   date,
    fshiftstart time,
    fphoto      bytea,
    fenable     char(1)      NOT NULL DEFAULT '1',
    fmodifytime timestamptz
);
COMMENT ON TABLE t_sec_user IS 'Employees';
