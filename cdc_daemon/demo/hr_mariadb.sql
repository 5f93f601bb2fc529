-- The demo's HR database where it is MariaDB: the tables of hr.sql as an HR system on MySQL has them.
-- The identity card number is there, as in life, and no mapping reads it.

CREATE TABLE t_org_org (
    fid                      bigint PRIMARY KEY,
    fnumber                  varchar(40)  NOT NULL UNIQUE,
    fname                    varchar(200) NOT NULL DEFAULT ' ',
    fparentid                bigint       NOT NULL DEFAULT 0,   -- t_org_org.fid
    faccountingtype          char(1)      NOT NULL DEFAULT '',  -- 1 legal entity, 2 profit centre
    funiformsocialcreditcode varchar(18)  NOT NULL DEFAULT ' ',
    fstatus                  char(1)      NOT NULL DEFAULT 'C',
    fenable                  tinyint(1)   NOT NULL DEFAULT 1
) COMMENT 'Organisation units';

CREATE TABLE t_sec_user (
    fid         int unsigned PRIMARY KEY AUTO_INCREMENT,
    fnumber     varchar(20)  NOT NULL UNIQUE,                   -- personnel number
    ftruename   varchar(100) CHARACTER SET gbk NOT NULL DEFAULT ' ',
    forgid      bigint       NOT NULL DEFAULT 0,                -- t_org_org.fid
    fgender     enum('1','2',' ') NOT NULL DEFAULT ' ',         -- 1 male, 2 female
    fphone      varchar(40)  NOT NULL DEFAULT ' ',
    femail      varchar(200) NOT NULL DEFAULT ' ',
    fidcard     varchar(30)  NOT NULL DEFAULT ' ',              -- personal; never mapped
    fbirthday   date,
    fhiredate   date,
    fshiftstart time,
    fphoto      mediumblob,
    fenable     tinyint(1)   NOT NULL DEFAULT 1,
    fmodifytime timestamp(6) NULL
) COMMENT 'Employees';
